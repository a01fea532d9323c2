"""Cells are measured once, kept, named while missing, and never mixed with others' settings."""

from __future__ import annotations

import json

import cells
import numpy as np
import pytest
import recovery

from epigram.errors import ConfigError

ABOUT = {"commit": "c"}


def bench(folder, settings, planned=("a/seed-0", "b/seed-0"), **more):
    return cells.Cells(
        "some", about=ABOUT, settings=settings, planned=planned, folder=folder, **more
    )


def test_a_finished_cell_is_read_and_a_missing_one_is_named(tmp_path) -> None:
    first = bench(tmp_path, {"epochs": 2})
    first.measure("a/seed-0", lambda: {"error": 1.0})
    written = json.loads((tmp_path / "some.json").read_text())
    assert written["missing"] == ["b/seed-0"]
    second = bench(tmp_path, {"epochs": 2}, summarise=lambda done: {"cells_done": len(done)})
    assert second.measure("a/seed-0", lambda: pytest.fail("measured twice"))["error"] == 1.0
    second.measure("b/seed-0", lambda: {"error": 2.0})
    written = json.loads((tmp_path / "some.json").read_text())
    assert (written["missing"], written["cells_done"]) == ([], 2)
    assert written["cells"]["b/seed-0"]["error"] == 2.0


def test_cells_that_somebody_else_planned_stay_planned(tmp_path) -> None:
    bench(tmp_path, {}).measure("a/seed-0", lambda: {"error": 1.0})
    only_c = bench(tmp_path, {}, planned=["c/seed-0"])
    only_c.measure("c/seed-0", lambda: {"error": 3.0})
    written = json.loads((tmp_path / "some.json").read_text())
    assert written["missing"] == ["b/seed-0"]
    assert sorted(written["cells"]) == ["a/seed-0", "c/seed-0"]


def test_other_settings_are_refused_unless_begun_anew(tmp_path) -> None:
    bench(tmp_path, {"epochs": 2}).measure("a/seed-0", lambda: {"error": 1.0})
    with pytest.raises(ConfigError, match=r"1 cells of other settings.*epochs.*--fresh"):
        bench(tmp_path, {"epochs": 3})
    assert bench(tmp_path, {"epochs": 3}, fresh=True).done == {}


def test_settings_that_are_apart_grow_and_only_the_changed_ones_cells_are_forgotten(
    tmp_path,
) -> None:
    first = bench(tmp_path, {"a": 1}, apart=True)
    first.measure("a/seed-0", lambda: {"error": 1.0})
    second = bench(tmp_path, {"b": 1}, apart=True)
    second.measure("b/seed-0", lambda: {"error": 2.0})
    assert (sorted(second.done), second.settings) == (["a/seed-0", "b/seed-0"], {"a": 1, "b": 1})
    with pytest.raises(ConfigError, match="of other settings"):
        bench(tmp_path, {"a": 2}, apart=True)
    anew = bench(tmp_path, {"a": 2}, apart=True, fresh=True)
    assert (list(anew.done), anew.settings) == (["b/seed-0"], {"a": 2, "b": 1})


def test_spreads_leave_out_what_is_not_a_number() -> None:
    found = cells.spreads(
        {"a/seed-0": {"x": 1.0}, "a/seed-1": {"x": 3.0}, "b/seed-0": {"x": None}},
        ["x"],
        name=lambda key: key.partition("/")[0],
    )
    assert found["a"]["x"] == {"median": 2.0, "min": 1.0, "max": 3.0, "n": 2}
    assert found["b"]["x"] is None


def test_which_units_the_rule_would_have_removed_and_which_came_back() -> None:
    removability = np.array(
        # beyond for good | never twice in a row | removed, signal later and at the end | removed, wanders
        [[4.0, 4.0, 4.0, 4.0], [5.0, 2.0, 4.0, 4.0], [5.0, 4.0, 2.0, 2.0], [5.0, 2.0, -1.0, 4.0]]
    )
    assert recovery.removal_epochs(removability > 3.0, 2).tolist() == [1, 4, 1, 1]
    found = recovery.rule(removability, 3.0, 2, signal=0.0)
    assert found["removed"] == 3
    assert (found["below_the_cut_later"], found["below_the_cut_at_the_end"]) == (2, 1)
    assert (found["signal_later"], found["signal_at_the_end"]) == (1, 1)
    assert found["least_at_the_end"] == -1.0
