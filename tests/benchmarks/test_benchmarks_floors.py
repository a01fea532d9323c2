"""What the floors' benchmark checks, on made-up figures."""

from __future__ import annotations

import floors
import floors_picture
import pytest
import record
import tables_of_files


def figures(
    size: int, error: float, *, met: bool = True, value: float = 1.0, control: float = 0.995
) -> dict:
    floor = {"met": met, "validation_value": value, "control_value": control}
    run = {"seed": 0, "file_bytes": size, "test_error_percent": error, "floor": floor}
    return {
        "median": run,
        "bytes": record.summary([size]),
        "test_error_percent": record.summary([error]),
        "floors_met": int(met),
        "runs": [run],
    }


def test_the_band_is_that_of_ten_thousand_images():
    low, high = floors.band(1.0)
    assert low == pytest.approx(1.0 - 0.195, abs=1e-3) and high == pytest.approx(1.195, abs=1e-3)


def test_all_is_well_where_it_is():
    found = {"0.986": figures(800, 1.3), "0.99": figures(1000, 0.9), "0.993": figures(2000, 0.7)}
    checks = floors.checked(found)
    assert all(checks["held"].values()) and checks["median_bytes"] == [800, 1000, 2000]
    assert floors_picture.draw(found).startswith(b"\x89PNG")


def test_what_is_not_is_named():
    found = {
        "0.986": figures(1200, 2.3),
        "0.99": figures(1000, 0.1, met=False),  # it was met
        "0.993": figures(2000, 0.1),
    }
    checks = floors.checked(found)
    assert not any(checks["held"].values())
    assert checks["floors_missed_and_said"] == 1
    assert [o["floor"] for o in checks["outside_band"]] == ["0.986", "0.99", "0.993"]


def test_a_floor_that_is_missed_and_said_is_no_failure():
    found = {"0.99": figures(1000, 0.9, met=False, value=0.989)}
    checks = floors.checked(found)
    assert all(checks["held"].values()) and checks["floors_missed_and_said"] == 1


def test_the_table_has_a_line_for_each_floor():
    found = {"0.986": figures(800, 1.3), "0.99": figures(1000, 0.9, met=False, value=0.989)}
    lines = tables_of_files.floors({"floors": found, "checks": floors.checked(found)})
    assert len(lines) == 2 + 2
    assert "98.6" in lines[2] and "1 of 1" in lines[2] and "0 of 1" in lines[3]


def test_the_table_of_the_ablation_compares_with_the_recipe_as_it_is():
    found = {"as-it-is": figures(1000, 0.9), "no-teacher": figures(1250, 0.9, met=False)}
    for one in found.values():
        one["median"]["static_code_bytes"] = 900.5
    lines = tables_of_files.bits_ablation({"floor": "accuracy>=0.99", "variants": found})
    assert "1 000" in lines[2] and "1.25" in lines[3] and "0 of 1" in lines[3]
