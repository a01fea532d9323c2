"""What is expected of the whole experiment has grounds that are in the repository, and missing weights stop nothing."""

from __future__ import annotations

import json

import full_cifar
import full_cifar_expected
import record

from epigram import recipes

EXPECTED = full_cifar_expected.EXPECTED


def packed():
    found = json.loads((record.RESULTS / "pack.json").read_text())
    points = found["networks"]["resnet20/cifar10-jpeg"]["points"]
    return points[0], next(point for point in points if point.get("qp") == -24)


def test_every_network_has_a_recipe_and_an_expectation() -> None:
    assert list(full_cifar_expected.FLOORS) == list(EXPECTED)
    for name in EXPECTED:
        assert f"{name}/cifar10" in recipes.names()
    assert set(full_cifar_expected.PUBLISHED) <= set(EXPECTED)


def test_what_is_carried_over_from_our_own_results_is_what_they_say() -> None:
    original, point = packed()
    below = 100 * (original["accuracy"] - point["accuracy"])
    assert f"{below:.2f} points below" in EXPECTED["resnet20-scratch"].grounds
    assert EXPECTED["resnet20"].most_bytes == EXPECTED["resnet20-scratch"].most_bytes
    assert EXPECTED["resnet20"].most_bytes == point["bytes"]
    factor = original["dense_bytes"] / point["bytes"]
    parameters = sum(p.numel() for p in recipes.get("allconv/cifar10").build().parameters())
    assert f"{factor:.1f}" in EXPECTED["allconv"].grounds
    assert EXPECTED["allconv"].most_bytes == round(4 * parameters / factor)
    curves = json.loads((record.RESULTS / "curves-allconv.json").read_text())["curves"]
    error = 100 * (1 - curves["plain-decay"]["last"]["validation_accuracy"]["median"])
    assert f"{error:.0f} %" in EXPECTED["allconv"].grounds


def test_missing_weights_are_named_and_only_where_they_are_needed(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(type(full_cifar.RESNET20), "places", lambda self: [tmp_path / self.file])
    assert [name for name in EXPECTED if full_cifar.lacking(name)] == ["resnet20"]
    assert "akamaster" in full_cifar.lacking("resnet20")
    text = full_cifar.table(full_cifar.measured({}))
    assert "the pretrained weights are not here" in text
    assert text.count("not run yet") == len(EXPECTED) - 1
    (tmp_path / full_cifar.RESNET20.file).touch()
    assert full_cifar.lacking("resnet20") == ""
