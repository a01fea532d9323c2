from __future__ import annotations

import json

import lenet_figures
import lenets
import preparing
import processor_time
import published_layers
import pytest
import stabilisers
import structure_pass_figures
import tables_of_structure
import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence

from epigram import recipes


def result(seed: int, size: int, error: float) -> dict[str, object]:
    return {
        "seed": seed,
        "identity": "i",
        "file_bytes": size,
        "predicted_bytes": size,
        "dense_bytes": 1000 * size,
        "ratio": 1000.0,
        "breakdown": {"header": 4},
        "test_error_percent": error,
        "dense_test_error_percent": 1.0,
        "paper_counts": {"architecture": 9.0 + seed, "with_uncertainty": 36.0},
        "floor": {"met": seed != 1},
        "units": {"fc1": {"before": 300, "after": 30}},
        "parameters": {"before": 10, "after": 5},
        "seconds": {"plain": 2.0, "structure": 3.0},
        "environment": {"threads": 1},
    }


SESSION = {"commit": "c", "dirty": False, "date": "d", "seconds": 7.5}


@pytest.fixture
def runs(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"stage": "plain"}\n{"stage": "structure"}\n')
    shapes = [(0, 90, 1.9), (1, 70, 1.7), (2, 80, 1.8)]
    return [lenet_figures.of_run(tmp_path, result(*s), [SESSION]) for s in shapes]


def test_a_recipe_reports_the_median_file_with_its_own_error(runs):
    found = lenet_figures.of_recipe(runs)
    assert (found["median"]["seed"], found["median"]["test_error_percent"]) == (2, 1.8)
    assert found["spread"]["file_bytes"] == {"median": 80, "min": 70, "max": 90, "n": 3}
    assert found["spread"]["paper_test_error_percent"] is None
    assert found["floors_met"] == 2
    assert found["median"]["epochs"] == 2
    assert json.dumps(found, allow_nan=False)


def test_the_whole_time_is_told_only_of_runs_in_one_session(tmp_path):
    killed = {**SESSION, "seconds": None}
    once = lenet_figures.of_run(tmp_path, result(0, 1, 1.0), [SESSION])
    twice = lenet_figures.of_run(tmp_path, result(0, 1, 1.0), [killed, SESSION])
    assert (once["seconds"], twice["seconds"]) == (7.5, None)


def spread(low: float, middle: float, high: float) -> dict[str, object]:
    one = {"median": middle, "min": low, "max": high, "n": 3}
    return {"spread": dict.fromkeys(lenet_figures.COMPARED, one)}


@pytest.mark.parametrize(
    ("convolution", "alike"),
    [(spread(2.0, 4.0, 5.0), True), (spread(3.5, 3.6, 3.7), True), (spread(9, 9.5, 10), False)],
)
def test_linear_and_convolution_are_alike_within_the_spread_of_seeds(convolution, alike):
    known = {lenet_figures.LINEAR: spread(1.0, 2.0, 3.0), lenet_figures.CONVOLUTION: convolution}
    compared = lenet_figures.linear_against_convolution(known)
    assert {figure["within_spread"] for figure in compared.values()} == {alike}
    assert lenet_figures.linear_against_convolution({lenet_figures.LINEAR: spread(1, 2, 3)}) is None


def test_the_table_has_a_line_per_recipe(runs):
    text = lenet_figures.table({"a/b": lenet_figures.of_recipe(runs)})
    assert len(text.splitlines()) == 2
    assert "80 (70–90)" in text
    assert "2/3" in text


def test_recipes_not_asked_for_stay_in_the_results(tmp_path):
    about = {"seeds": [0]}
    for name in ("x/y", "a/b"):
        folder = tmp_path / name / "seed-0"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(result(0, 10, 1.0)))
        lenets.collect(name, [folder], tmp_path / "results", about, [])
    written = json.loads((tmp_path / "results" / "lenets.json").read_text())
    assert list(written["recipes"]) == ["a/b", "x/y"]


def test_the_structure_pass_is_timed_against_as_many_plain_epochs():
    plain = [{"stage": "plain", "seconds": s, "step_ms": 1.0} for s in (2.0, 4.0)]
    twin = [{"stage": "structure", "seconds": s, "step_ms": s} for s in (4.0, 2.0, 1.0, 1.0)]
    after = [{"stage": "finetune", "seconds": 1.0, "step_ms": 1.0}] * 2
    cpu = {"plain": 5.0, "structure": 7.5, "cut": 1.0}
    found = structure_pass_figures.times([*plain, *twin, *after], cpu)
    assert found["plain_seconds_for_as_many_epochs"] == 12.0
    assert found["ratio_whole"] == pytest.approx(8.0 / 12.0, abs=1e-4)
    assert found["ratio_to_the_end"] == pytest.approx((8.0 + 1.0 + 2.0) / 18.0, abs=1e-4)
    assert (found["ratio_cpu"], found["ratio_cpu_to_the_end"]) == (0.75, None)
    assert found["ratio_steps"] == 2.0
    assert found["last_over_first_epoch"] == 0.25
    with pytest.raises(ValueError, match="0 structure epochs"):
        structure_pass_figures.times(plain, {})


def test_shrinking_is_compared_with_the_same_twin_that_does_not_shrink():
    def cell(error, ratio):
        return {"validation_error_percent": error, "ratio_whole": ratio, "ratio_cpu": None}

    found = structure_pass_figures.summarised(
        {
            "a/b/plain/seed-0": {"validation_error_percent": 1.0},
            "a/b/shrinking-tied/seed-0": cell(1.2, 0.9),
            "a/b/shrinking-tied/seed-1": cell(1.4, 0.8),
            "a/b/not-shrinking-tied/seed-0": cell(1.3, 2.0),
            "a/b/shrinking-each/seed-0": cell(1.2, 0.9),
            "a/c/shrinking-each/seed-0": cell(1.6, 1.1),
            "a/c/not-shrinking-each/seed-0": cell(1.3, 2.0),
        }
    )
    compared = found["compared"]
    assert list(compared) == ["a/b/shrinking-tied", "a/c/shrinking-each"]
    assert compared["a/b/shrinking-tied"] == {
        "costs_no_more_than_plain": {"ratio_whole": True},
        "same_error_as_without": {"validation_error_percent": True},
    }
    assert compared["a/c/shrinking-each"]["costs_no_more_than_plain"] == {"ratio_whole": False}
    assert compared["a/c/shrinking-each"]["same_error_as_without"] == {
        "validation_error_percent": False
    }
    assert len(structure_pass_figures.table(found["spread"]).splitlines()) == 7
    rows = tables_of_structure.structure_pass({**found, "missing": ["a/b/plain/seed-1"]})
    assert "| a/b | shrinking, tied | 2 | 1.30 (1.20–1.40) |" in rows[3]
    assert rows[-1] == "Not measured yet: a/b/plain/seed-1."


def test_processor_seconds_are_noted_of_stages_that_one_process_did(tmp_path):
    class Run:
        folder, splits = tmp_path, None

    assert processor_time.timed(Run, "plain", lambda: "made") == "made"
    assert list(processor_time.noted(tmp_path)) == ["plain"]
    begun = tmp_path / "checkpoints" / "structure.pt"
    begun.parent.mkdir()
    begun.touch()
    processor_time.timed(Run, "structure", lambda: None)
    assert list(processor_time.noted(tmp_path)) == ["plain"]


def test_each_variant_lacks_what_its_name_says_and_nothing_else():
    base = recipes.get(stabilisers.RECIPE).settings
    cells = {name: [] for name in stabilisers.VARIANTS}
    found = stabilisers.summarised(base, cells)
    changed = {name: set(variant["changed"]) for name, variant in found.items()}
    assert changed[stabilisers.AS_IT_IS] == set()
    bounds = {"logvar_min", "logvar_max", "scale_logvar_min", "scale_logvar_max"}
    clamps = {f"posterior.{bound}" for bound in bounds} | {"structure.clamp"}
    assert "structure.clamp" in changed["without variance clamp"] <= clamps
    assert changed["without gradient clipping"] <= {"structure.grad_clip"}
    assert changed["without KL warm-up"] <= {"structure.kl_warmup_epochs"}


def test_a_variant_that_broke_counts_as_nan_and_not_in_the_spread():
    base = recipes.get(stabilisers.RECIPE).settings
    good = {"nan": None, "error_percent": 2.0, "nll": 0.1, "predicted_bytes": 100}
    bad = {"nan": {"epoch": 3, "step": 9}, "predicted_bytes": 5}
    cells = {name: [] for name in stabilisers.VARIANTS} | {stabilisers.AS_IT_IS: [good, bad]}
    found = stabilisers.summarised(base, cells)[stabilisers.AS_IT_IS]
    assert (found["went_to_nan"], found["nan_epochs"], found["runs"]) == (1, [3], 2)
    assert found["predicted_bytes"]["n"] == 1
    assert "1 of 2" in stabilisers.table(stabilisers.summarised(base, cells))


def test_without_test_there_is_nothing_to_read_and_quick_runs_never_see_it():
    recipe = recipes.get("lenet-300-100/mnist")
    whole = recipe.load_data()
    assert preparing.without_test(recipe).load_data().test is None
    quick = preparing.quick_recipe(recipe).load_data()
    assert len(quick.fit) == 1000
    rows = {row.numpy().tobytes() for row in whole.fit.inputs[:2000]}
    assert all(row.numpy().tobytes() in rows for row in quick.test.inputs)


def test_only_run_folders_are_deleted(tmp_path):
    (tmp_path / "other").mkdir()
    preparing.start_fresh(tmp_path / "other")
    assert (tmp_path / "other").exists()
    (tmp_path / "other" / "config.json").write_text("{}")
    preparing.start_fresh(tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("layer", ["linear", "conv"])
def test_the_port_without_noise_is_the_plain_layer(layer):
    torch.manual_seed(0)
    if layer == "linear":
        port, x = published_layers.GroupLinear(4, 3), torch.randn(5, 4)
        expected = F.linear(x * port.z_mean, port.weight_mean, port.bias_mean)
    else:
        port, x = published_layers.GroupConv2d(2, 3, 3), torch.randn(5, 2, 6, 6)
        expected = F.conv2d(x, port.weight_mean, port.bias_mean) * port.z_mean[:, None, None]
    with torch.no_grad():
        for logvar in (port.z_logvar, port.weight_logvar, port.bias_logvar):
            logvar.fill_(-80.0)
        # what noise is left has a standard deviation of e⁻⁴⁰
        torch.testing.assert_close(port(x), expected, rtol=1e-6, atol=1e-6)


def test_the_port_draws_what_sampled_weights_would_give():
    torch.manual_seed(0)
    port, x = published_layers.GroupLinear(3, 2), torch.randn(1, 3)
    draws = 200_000
    with torch.no_grad():
        port.z_logvar.fill_(-2.0)
        port.weight_logvar.fill_(-3.0)
        port.bias_logvar.fill_(-3.0)
        drawn = port(x.expand(draws, 3))
        z = Normal(port.z_mean, (0.5 * port.z_logvar).exp()).sample((draws,))
        weight = Normal(port.weight_mean, (0.5 * port.weight_logvar).exp()).sample((draws,))
        bias = Normal(port.bias_mean, (0.5 * port.bias_logvar).exp()).sample((draws,))
        slow = torch.einsum("bi,boi->bo", z * x, weight) + bias
    # standard errors of mean and variance are about 0.001 and 0.002: five of them
    torch.testing.assert_close(drawn.mean(0), slow.mean(0), rtol=0.0, atol=0.01)
    torch.testing.assert_close(drawn.var(0), slow.var(0), rtol=0.02, atol=0.005)


def test_the_ports_kl_is_that_of_its_normals_plus_the_fit_for_the_scales():
    torch.manual_seed(0)
    port = published_layers.GroupLinear(4, 3)
    with torch.no_grad():
        port.z_logvar.fill_(60.0)  # a scale of pure noise costs nothing under the fit
        normals = sum(
            kl_divergence(Normal(mean, (0.5 * logvar).exp()), Normal(0.0, 1.0)).sum()
            for mean, logvar in (
                (port.weight_mean, port.weight_logvar),
                (port.bias_mean, port.bias_logvar),
            )
        )
        torch.testing.assert_close(port.kl_nats(), normals, rtol=1e-5, atol=1e-5)
