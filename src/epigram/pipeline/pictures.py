"""What the report needs beside the figures, in one file of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from epigram.convert import Twin
from epigram.evaluate import CalibrationBins
from epigram.pipeline.frames import write_npz
from epigram.pipeline.job import Job
from epigram.prune import Decision, Removabilities

REPORT_DATA = "report_data.npz"
_SAMPLES = 10


def write_report_data(
    job: Job,
    twin: Twin | None,
    decision: Decision | None,
    seen: Removabilities,
    bins: CalibrationBins | None,
) -> None:
    """``report_data.npz``: removabilities with the cut, pixel importance, samples, calibration.

    Args:
        job: whose folder it goes to.
        twin: after pruning; None = there was no structure pass.
        decision: the cut.
        seen: per scale, each dense unit's last removability.
        bins: of the decoded network on the test set.
    """
    arrays: dict[str, NDArray[Any]] = {}
    if decision is not None:
        arrays["cut"] = np.array(decision.chosen.cut)
    arrays |= {f"removability/{name}": v.astype(np.float32) for name, v in seen.items()}
    if twin is not None:
        arrays |= _pixels(job, twin)
    if bins is not None:
        arrays |= _calibration(bins)
    write_npz(job.folder / REPORT_DATA, arrays)


def write_calibration(job: Job, bins: CalibrationBins) -> None:
    """``report_data.npz`` of a plain run: only its calibration."""
    write_npz(job.folder / REPORT_DATA, _calibration(bins))


def _calibration(bins: CalibrationBins) -> dict[str, NDArray[Any]]:
    return {
        "calibration_confidence": bins.confidence,
        "calibration_accuracy": bins.accuracy,
        "calibration_count": bins.count,
    }


def _pixels(job: Job, twin: Twin) -> dict[str, NDArray[Any]]:
    """How much of the first layer's weight each input pixel has, 0..1, if it reads pixels."""
    own = [a for a in twin.dense_structure.positions if a.group is None]
    inputs, targets = job.splits.validation.inputs, job.splits.validation.targets
    shape = inputs.shape[1:]
    if not own or own[0].size != int(np.prod(shape)) or len(shape) != 3 or shape[0] != 1:
        return {}
    weight = twin.posterior()[own[0].tensor].mean
    strength = np.sqrt(np.square(weight).reshape(len(weight), own[0].size, -1).sum((0, 2)))
    importance = strength / max(float(strength.max()), 1e-12)
    first = [int(np.flatnonzero(targets.numpy() == k)[0]) for k in np.unique(targets.numpy())]
    chosen = first[:_SAMPLES]
    images = inputs[chosen, 0]
    if images.is_floating_point():
        low, high = images.min(), images.max()
        images = (255 * (images - low) / (high - low).clamp_min(1e-12)).round()
    return {
        "pixel_importance": importance.reshape(shape[1:]).astype(np.float32),
        "sample_images": images.numpy().astype(np.uint8),
        "sample_labels": targets[chosen].numpy(),
    }
