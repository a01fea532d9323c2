"""``epigram train``: the plain network of a recipe (the baseline, and a start for ``compress``)."""

from __future__ import annotations

from collections.abc import Sequence

from epigram.cli import asked, output, plan


def run(argv: Sequence[str]) -> int:
    """Train the plain network; print its figures."""
    parser = asked.training_parser("train", "Train the plain network of a recipe.")
    call = asked.read(parser, argv)
    if isinstance(call, str):
        print(call, end="")
        return 0
    if call.options.dry_run:
        return plan.show(call, stages=("plain",))
    from epigram import pipeline
    from epigram.train import keep_freed_memory

    keep_freed_memory()
    result = pipeline.train_recipe(
        call.recipe,
        call.settings,
        call.folder,
        progress=call.progress,
        max_minutes=call.options.max_minutes,
    )
    if call.options.json:
        output.print_json(result)
    else:
        output.print_result(result)
        print(f"everything about this run: {call.folder}/")
    return 0
