"""A floor that the small network misses is held by a larger file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.tiny_recipe import TinyNet, bits_settings, recipe, settings

from epigram import artifact
from epigram.pipeline import CompressSettings, SteerSettings, compress_recipe

FLOOR = "accuracy>=0.85"
UNSTEERED = SteerSettings(structure=False, bits=False)


def too_far(used: CompressSettings, **more: Any) -> CompressSettings:
    """A structure pass that leaves next to nothing, whatever the floor."""
    heavy = replace(used.structure, kl_weight=300.0, epochs=6)
    return replace(used, structure=heavy, steer=UNSTEERED, **more)


@pytest.mark.parametrize("used", [settings(), bits_settings()], ids=["ladder", "bits"])
def test_the_plain_network_is_coded_where_nothing_smaller_holds(
    used: CompressSettings, tmp_path: Path, no_report: None
) -> None:
    result = compress_recipe(recipe(), too_far(used), tmp_path, floor=FLOOR, progress=None)
    assert result["floor"]["met"] and result["floor"]["validation_value"] >= 0.85
    assert result["fallback"]["network"] == "the plain network"
    assert result["fallback"]["its_validation_value"] < 0.85
    assert result["fallback"]["instead_of_bytes"] < result["file_bytes"] < result["dense_bytes"] / 3
    assert abs(result["predicted_bytes"] - result["file_bytes"]) <= 40
    small = artifact.load(tmp_path / "model.epg", into=TinyNet())
    assert sum(p.numel() for p in small.parameters()) == result["parameters"]["before"]
    assert all(of["before"] == of["after"] for of in result["units"].values())


def test_the_small_network_before_its_bits_pass_comes_first(
    tmp_path: Path, no_report: None
) -> None:
    used = bits_settings()
    bits = replace(used.bits, kl_weight=1e4, kl_warmup_epochs=0.0)
    steps = replace(used.coding, steps_per_std=0.2)
    coarse = replace(used, bits=bits, coding=steps, steer=UNSTEERED)
    result = compress_recipe(recipe(), coarse, tmp_path, floor=FLOOR, progress=None)
    assert result["floor"]["met"]
    assert result["fallback"]["network"] == "the small network, before its bits pass"
    assert result["quantize_price"] is not None


def test_it_can_be_switched_off(tmp_path: Path, no_report: None) -> None:
    used = too_far(settings(), fall_back=False)
    result = compress_recipe(recipe(), used, tmp_path, floor=FLOOR, progress=None)
    assert not result["floor"]["met"] and result["fallback"] is None


def test_where_the_plain_network_misses_the_floor_nothing_else_is_tried(
    tmp_path: Path, no_report: None
) -> None:
    result = compress_recipe(
        recipe(), settings(), tmp_path, floor="accuracy>=0.9999", force=True, progress=None
    )
    assert not result["floor"]["met"] and result["fallback"] is None
