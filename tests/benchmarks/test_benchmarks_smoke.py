"""Every benchmark runs, in seconds, without touching the results that are part of the repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import record

from epigram.data.cifar import CIFAR10_JPEG
from epigram.recipes.cifar import RESNET20

pytestmark = pytest.mark.slow

SCRIPTS = {
    "step_time": ("--networks", "lenet-300-100"),
    "stabilisers": (),
    "structure_pass": ("--recipe", "lenet-300-100/mnist", "--variances", "each", "tied"),
    "curves": (),
    "recovery": (),
    "layout_time": ("--networks", "lenet-5/mnist"),
    "data_path": (),
    "floors": ("--floors", "0.2", "0.3"),
    "bits": ("--files", "lenet-300-100-mnist-180", "--zoo"),
    "defaults": ("--steps-per-std", "4"),
    "bits_ablation": ("--variants", "as-it-is", "no-structure-pass", "no-bits-pass"),
}
ON_CIFAR = {
    "deep_steps": ("--networks", "vgg16-narrow"),
    "depth_ablation": (),
    "resnet20_pruning": ("--shares", "50"),
    "resnet20_bits": ("--prices", "0.5", "2", "--zoo", "2"),
    "full_cifar": ("--networks", "allconv", "--data", "cifar10-jpeg"),
}


def has_weights():
    return any(place.is_file() for place in RESNET20.places())


def run(script, out, *flags):
    command = [sys.executable, str(record.ROOT / "benchmarks" / f"{script}.py")]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(record.ROOT / "src"),
    }
    done = subprocess.run(
        [*command, "--quick", "--out", str(out), "--seeds", "0", *flags],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(autouse=True)
def kept():
    """What the repository holds of results, unchanged by a smoke run."""

    def contents():
        files = [*record.RESULTS.glob("*"), record.TEST_READS, *(record.ROOT / "zoo").glob("*")]
        return {path: path.read_bytes() for path in files if path.is_file()}

    before = contents()
    yield
    assert contents() == before


@pytest.mark.parametrize("script", [*SCRIPTS, *ON_CIFAR])
def test_the_benchmark_runs_and_says_what_it_found(script, tmp_path):
    if script in ON_CIFAR and (CIFAR10_JPEG.find() is None or not has_weights()):
        pytest.skip("needs CIFAR-10 as JPEG, and the pretrained ResNet-20")
    printed = run(script, tmp_path, *{**SCRIPTS, **ON_CIFAR}[script])
    written = json.loads((tmp_path / "results" / f"{script}.json").read_text())
    assert written["benchmark"] == script
    assert written["seeds"] == [0]
    assert len(printed.splitlines()) >= 2
    if script == "curves":
        assert (tmp_path / "results" / "curves.png").read_bytes().startswith(b"\x89PNG")
    if script == "bits":
        kept = tmp_path / "zoo" / "lenet-300-100-mnist-180.epg"
        assert kept.stat().st_size == written["files"][kept.stem]["median"]["file_bytes"]


def test_lenets_keep_the_file_and_read_a_finished_run(tmp_path):
    recipe = ("--recipe", "lenet-300-100/mnist")
    run("lenets", tmp_path, *recipe, "--zoo")
    first = json.loads((tmp_path / "results" / "lenets.json").read_text())
    kept = tmp_path / "zoo" / "lenet-300-100-mnist.epg"
    made = json.loads(kept.with_suffix(".json").read_text())
    median = first["recipes"]["lenet-300-100/mnist"]["median"]
    assert kept.stat().st_size == median["file_bytes"] == made["file_bytes"]
    assert "epigram compress lenet-300-100/mnist --seed 0" in made["made_by"]["command"]
    run("lenets", tmp_path, *recipe)
    second = json.loads((tmp_path / "results" / "lenets.json").read_text())
    assert second["recipes"] == first["recipes"]
    assert median["seconds"] > 0
