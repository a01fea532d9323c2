"""What the floors' benchmark checks, on made-up figures."""

from __future__ import annotations

import floors
import floors_picture
import pytest


def figures(size: int, error: float, *, met: bool = True) -> dict:
    run = {"seed": 0, "file_bytes": size, "test_error_percent": error, "floor": {"met": met}}
    return {
        "median": run,
        "bytes": {"min": size, "max": size},
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
        "0.99": figures(1000, 0.1, met=False),
        "0.993": figures(2000, 0.1),
    }
    checks = floors.checked(found)
    assert not any(checks["held"].values())
    assert [o["floor"] for o in checks["outside_band"]] == ["0.986", "0.99", "0.993"]
