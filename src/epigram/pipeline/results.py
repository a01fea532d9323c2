"""``result.json``: everything a run says about itself, and when it is there already."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from torch import nn

import epigram
from epigram import artifact, atomic, codec, report
from epigram.convert import Twin
from epigram.pipeline.files import Rung
from epigram.pipeline.job import Job, environment
from epigram.pipeline.verify import cost_figures, counted, dense_bytes, test_figures
from epigram.prune import Decision
from epigram.records import Structure
from epigram.structure import analyse, extra_state, state_tensors
from epigram.structure.copying import copied
from epigram.train import RunFolder, read_metrics


def finished(job: Job, *files: str) -> dict[str, Any] | None:
    """What a finished run's ``result.json`` says; None while it or one of ``files`` is missing."""
    path = job.folder / "result.json"
    if not path.exists() or not all((job.folder / name).exists() for name in files):
        return None
    result: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if job.settings.page and not (job.folder / "report" / "index.html").exists():
        report.build(job.folder)
    return result


def pruning_figures(decision: Decision) -> dict[str, Any]:
    """Which cut was chosen, and what each one tried was worth on the control split."""
    return {
        "cut": decision.chosen.cut,
        "control_uncut": decision.uncut_metric,
        "control_at_cut": decision.chosen.metric,
        "tried": [
            {"cut": c.cut, "parameters": c.parameters, "control": c.metric} for c in decision.tried
        ],
    }


def file_figures(
    job: Job,
    plain: nn.Module,
    small: nn.Module,
    twin: Twin | None,
    rung: Rung,
    path: Path,
    *,
    met: bool,
) -> dict[str, Any]:
    """Everything ``result.json`` says about the file, from the file."""
    assert job.floor is not None
    decoded = artifact.load(path, into=job.build()).eval()
    size, dense = path.stat().st_size, dense_bytes(plain)
    shapes = artifact.dense_shapes(job.build())
    structure = analyse(plain, job.example, on_failure="leave") if twin is None else None
    dense_structure = structure or twin.dense_structure  # type: ignore[union-attr]
    return {
        "dense_bytes": dense,
        "file_bytes": size,
        "ratio": round(dense / size, 3),
        "breakdown": codec.breakdown(path.read_bytes(), dense_shapes=shapes).flat(),
        "predicted_bytes": rung.predicted_bytes,
        **test_figures(job, plain, decoded),
        "floor": {
            "metric": job.floor.metric,
            "value": None if job.budget is not None else job.floor.value,
            "larger_is_better": job.floor.larger_is_better,
            "validation_value": rung.validation,
            "control_value": rung.control,
            "met": met,
            "reason": None if met else _why_not(job, rung, size),
        },
        "budget": None if job.budget is None else {"bytes": job.budget, "met": size <= job.budget},
        "paper_counts": (None if twin is None else counted(job, plain, copied(small), twin)),
        "units": units_left(dense_structure, twin, decoded),
        "parameters": {
            "before": sum(p.numel() for p in plain.parameters()),
            "after": (
                twin.effective_parameters()
                if twin is not None and rung.price is not None
                else sum(p.numel() for p in decoded.parameters())
            ),
            "not_zero": sum(int(p.count_nonzero()) for p in decoded.parameters()),
        },
        "quantize_price": rung.price,
        "left_whole": [
            f"{left.where}: {left.operation}: {left.reason}" for left in dense_structure.left_whole
        ],
        "left_out": list(extra_state(plain)),
        **cost_figures(job, plain, decoded, path),
    }


def units_left(
    structure: Structure, twin: Twin | None, decoded: nn.Module
) -> dict[str, dict[str, int]]:
    """Per group and position axis: units before and after, those of the file."""
    shapes = {name: tuple(t.shape) for name, t in state_tensors(decoded).items()}
    found = {}
    for group in structure.groups:
        producer = next((m for m in group.members if m.role == "produces"), None)
        after = group.units
        if producer is not None:
            after = shapes[producer.tensor][producer.axis] // producer.index.shape[1]
        found[group.name] = {"before": group.units, "after": after}
    for name, (after, before) in (twin.units_kept() if twin is not None else {}).items():
        found.setdefault(name, {"before": before, "after": after})
    return found


def _why_not(job: Job, rung: Rung, size: int) -> str:
    """One sentence: what was asked, what was reached, what to try."""
    assert job.floor is not None
    if job.budget is not None:
        return (
            f"the smallest file has {size} bytes, {size - job.budget} more than the budget; more epochs "
            "of the bits pass, or a network with fewer units, would make it smaller"
        )
    reached = f"{job.floor.metric} {rung.validation:g} on validation, {rung.control:g} on control"
    if job.floor.met(rung.control):
        return (
            f"{reached}: control, which steers, was satisfied and validation, which judges, was not; "
            "aim further ahead (steer.ahead), train longer, or lower the floor"
        )
    return (
        f"{reached}: not even the file that control likes best holds it; train longer, weigh the "
        "complexity less (kl_weight), or lower the floor"
    )


def identity_figures(job: Job, run: RunFolder) -> dict[str, Any]:
    """What ran, on what, where."""
    return {
        "identity": run.identity,
        "recipe": job.recipe.name,
        "seed": job.settings.seed,
        "epigram_version": epigram.__version__,
        "environment": dict(environment()),
        "splits": job.splits.describe(),
        "history": "metrics.jsonl",
    }


def finish(
    job: Job, result: dict[str, Any], seconds: dict[str, float] | None = None
) -> dict[str, Any]:
    """Seconds per stage, the result, the page."""
    spent: dict[str, float] = {}
    for line in read_metrics(job.folder / "metrics.jsonl"):
        stage = str(line["stage"])
        spent[stage] = round(spent.get(stage, 0.0) + float(line["seconds"]), 2)
    result["seconds"] = spent | {k: round(v, 2) for k, v in (seconds or {}).items()}
    result = finite(result)
    atomic.write_json(job.folder / "result.json", result)
    if job.settings.page:
        report.build(job.folder)
    return result


def finite(value: Any) -> Any:
    """Plain data as JSON can say it: NaN and infinities become None, keys and order stay."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
