"""Every file in the zoo decodes, and is on the full test set what its figures say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epigram import cli, codec
from epigram.data.cifar import CIFAR10_JPEG
from epigram.recipes.cifar import RESNET20

ZOO = Path(__file__).parents[2] / "zoo"
FILES = sorted(ZOO.glob("*.epg"))
PROMISED = {  # file: most bytes, most test error in per cent
    "lenet-300-100-mnist": (20_000, 2.0),
    "lenet-5-mnist": (4_000, 1.0),
    "lenet-5-horseshoe-mnist": (4_000, 1.0),
}


def at_hand() -> bool:
    """Are the images and weights there that the repository does not hold?"""
    weights = any(place.is_file() for place in RESNET20.places())
    return weights and CIFAR10_JPEG.find() is not None


def test_the_promised_files_are_there() -> None:
    assert set(PROMISED) <= {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_what_its_figures_say(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = json.loads(path.with_suffix(".json").read_text("utf-8"))
    recorded = recorded.get("result", recorded)
    if recorded["recipe"].startswith("resnet20/") and not at_hand():
        pytest.skip("needs cifar10-jpeg and the pretrained ResNet-20 (EPIGRAM_DATA)")
    assert cli.main(["evaluate", str(path), "--recipe", recorded["recipe"], "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["file_bytes"] == path.stat().st_size == recorded["file_bytes"]
    assert figures["ratio"] == pytest.approx(recorded["ratio"], abs=1e-3)
    # another machine's products are rounded otherwise: one image in ten thousand may tip over
    assert figures["test_error_percent"] == pytest.approx(
        recorded["test_error_percent"], abs=0.0101
    )
    assert codec.inspect(path.read_bytes())["profile"] == "bare"
    if path.stem in PROMISED:
        most_bytes, most_error = PROMISED[path.stem]
        assert figures["file_bytes"] <= most_bytes
        assert figures["test_error_percent"] <= most_error
