"""``epigram evaluate``: decode a file and test the network in it."""

from __future__ import annotations

from collections.abc import Sequence

from epigram.cli import asked, output
from epigram.cli.parser import Parser, add_output_flags


def run(argv: Sequence[str]) -> int:
    """Print bytes, test error and ratio of an ``.epg`` file."""
    parser = Parser("evaluate", "Decode a file and test the network in it on the full test set.")
    parser.add_argument("file", help="the .epg file")
    parser.add_argument("--recipe", help="whose network and test set; for example lenet-5/mnist")
    asked.add_own_network(parser)
    add_output_flags(parser)
    options = parser.parse(argv)
    path = output.existing_file(options.file)
    recipe = asked.find_recipe(options)
    from epigram import pipeline

    result = pipeline.evaluate_file(path, recipe)
    if options.json:
        output.print_json(result)
        return 0
    print(f"{path}: {output.grouped(int(result['file_bytes']))} bytes")
    print(f"test error {result['test_error_percent']:.2f} %")
    if result.get("ratio") is not None:
        print(f"{result['ratio']:.1f} times smaller than the original's fp32 parameters")
    return 0
