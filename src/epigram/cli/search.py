"""``epigram search``: the smallest file subject to the floor, over settings and widths, in many runs."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epigram.cli import DONE, FLOOR_NOT_MET, asked, output, plan, starts
from epigram.cli.search_call import Search, read
from epigram.cli.search_flags import parser
from epigram.errors import ExecutorError

if TYPE_CHECKING:
    from epigram.runner import Executor
    from epigram.search import Command, Study

_PATIENCE = 10.0


def run(argv: Sequence[str]) -> int:
    """Search, confirm, report; 3 if nothing was confirmed."""
    call = read(parser(), argv)
    if isinstance(call, str):
        print(call, end="")
        return DONE
    if call.options.dry_run:
        return _show_plan(call)
    with _study(call) as study, _executor(call) as executor:
        from epigram.search import Driver

        driver = Driver(
            study,
            executor,
            command(call),
            trials=call.options.trials,
            parallel=call.options.parallel,
            say=None if call.options.quiet else output.warn,
            max_seconds=_seconds(call.options.max_minutes),
        )
        driver.run()
        return _tell(call, study)


def command(call: Search) -> Command:
    """What runs a trial, and for how long."""
    from epigram.search import Command as Made

    waits = call.options.executor == "slurm"  # its trials may wait in a queue for hours
    return Made(
        (sys.executable, "-m", "epigram.cli.trial", "{folder}", *starts.words(call.options)),
        env=_where_modules_are(),
        grace_s=call.options.grace,
        wall_s=_seconds(call.options.trial_minutes),
        patience=None if waits else _PATIENCE,
        files=(),  # epigram's own code, and what trials start from, are in the identity by themselves
    )


def _study(call: Search) -> Study:
    from epigram import recipes
    from epigram.pipeline import check_recipe
    from epigram.pipeline.source import code
    from epigram.search import Study as Opened
    from epigram.search import StudySettings, margins, trial

    options = call.options
    check_recipe(call.recipe, call.floor)
    splits = call.recipe.load_data()
    judges, examples = len(splits.control) // 2, len(splits.validation)
    margin = options.margin
    if margin is None:
        files = options.confirm * StudySettings.confirm_seeds
        margin = margins.confirmable_margin(judges=judges, examples=examples, files=files)
    aim = margins.aimed(
        call.floor, examples=examples, errors=options.aim, judges=judges, margin=margin
    )
    named = {"recipe": options.recipe, "model": options.model}
    if options.model is not None:
        named["data"] = options.data
    named |= starts.digests(options)
    return Opened(
        call.folder,
        call.space,
        floor=call.floor,
        settings=StudySettings(
            seed=options.seed,
            sampler=options.sampler,
            stopping=options.stopping,
            margin=margin,
            confirm=options.confirm,
        ),
        base=call.settings,
        task=trial.task_of(
            call.recipe,
            call={key: value for key, value in named.items() if value is not None},
            aim=str(aim),
        ),
        widths=recipes.widths(call.recipe),
        code=code(),
        allow_code_change=options.allow_code_change,
    )


def _executor(call: Search) -> contextlib.AbstractContextManager[Executor]:
    """Slots of this machine (cards, else shares of the processor), of a Ray cluster, or of Slurm.

    Raises:
        ExecutorError: the cluster, or a card, cannot be had.
    """
    from epigram import runner

    name, options = str(call.folder.resolve()), call.options
    with_cards = call.settings.device != "cpu"
    if options.executor == "ray":
        from epigram.runner.cluster import RayExecutor

        return RayExecutor(name, with_cards=with_cards)
    if options.executor == "slurm":
        from epigram.runner.batch import SlurmExecutor

        return SlurmExecutor(
            name, folder=call.folder / "slurm", count=options.parallel, with_cards=with_cards
        )
    if with_cards:
        executor = runner.LocalExecutor(name)
        cards = [s for s in executor.slots() if isinstance(s, runner.LocalSlot) and s.card]
        if call.settings.device.startswith("cuda") and not cards:
            executor.close()
            raise ExecutorError(
                f"device: got {call.settings.device}, but NVML shows no graphics card here; "
                "expected the driver and `pip install nvidia-ml-py`, or --device cpu"
            )
        return executor
    return runner.LocalExecutor(name, slots=runner.processor_slots(options.parallel))


def _where_modules_are() -> dict[str, str]:
    """Trials run in folders of their own; modules of the caller's are still found from here."""
    known = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), *([known] if known else [])])}


def _tell(call: Search, study: Study) -> int:
    """Print what came of it; the report and the winner's file are written first."""
    from epigram.search import report, winner

    page = report.build(study.folder)
    kept = winner.keep(study)
    document = report.facts(study.folder) | {
        "page": str(page),
        "winner": None if kept is None else str(kept),
    }
    if call.options.json:
        output.print_json(document)
    else:
        print(document["sentence"])
        print(f"the report  {page}")
        if kept is not None:
            print(f"the file    {kept}")
    if kept is not None:
        return DONE
    if call.options.json:
        output.warn(str(document["sentence"]))
    return FLOOR_NOT_MET


def _show_plan(call: Search) -> int:
    """What would be searched, and about how long a trial takes."""
    from epigram.pipeline import check_recipe

    check_recipe(call.recipe, call.floor)
    splits = call.recipe.load_data()
    as_compress = asked.Asked(call.recipe, call.settings, call.folder, call.options)
    step = plan.measure_step(call.recipe.build(), splits, as_compress)
    skip = {"plain"} if call.options.from_folder is not None else set()
    stages = plan.training_stages(call.settings, len(splits.fit), step)
    each = sum(stage.seconds for stage in stages if stage.name not in skip)
    options = call.options
    rounds = -(-options.trials // options.parallel) + -(-options.confirm * 3 // options.parallel)
    document: dict[str, Any] = {
        "recipe": call.recipe.name,
        "out": str(call.folder),
        "floor": str(call.floor),
        "space": {name: str(d) for name, d in call.space.dimensions.items()},
        "trials": options.trials,
        "parallel": options.parallel,
        "confirming_runs": options.confirm * 3,
        "seconds_per_trial": round(each, 1),
        "seconds": round(each * rounds, 1),
    }
    if options.json:
        output.print_json(document)
        return DONE
    print(f"would search {call.recipe.name} in {call.folder}/ (nothing is written now)")
    output.print_table(document["space"].items(), header=("varied", "values"))
    print(
        f"{options.trials} trials and {options.confirm * 3} runs that confirm, {options.parallel} at "
        f"a time, about {plan.duration(each)} each: {plan.duration(document['seconds'])} in all"
    )
    return DONE


def _seconds(minutes: float | None) -> float | None:
    return None if minutes is None else 60.0 * minutes
