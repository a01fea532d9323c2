"""Frozen settings: the same dataclass is filled from code, from a config file and from flags.

A settings class is an ordinary frozen dataclass whose fields have plain types (numbers, strings, paths,
literals, enums, tuples, lists, mappings, optional values, other settings classes). Nothing here knows
which settings there are; they stand beside the code they govern.
"""

from __future__ import annotations

from epigram.config.bookkeeping import bookkeeping, split_bookkeeping
from epigram.config.describe import (
    dotted_keys,
    help_of,
    hints_of,
    section_type,
    type_name,
    unknown_key,
)
from epigram.config.fit import from_dict
from epigram.config.override import read_file, with_overrides
from epigram.config.plain import ABSENT, differences, identity, to_dict

__all__ = [
    "to_dict",
    "from_dict",
    "with_overrides",
    "read_file",
    "bookkeeping",
    "split_bookkeeping",
    "identity",
    "differences",
    "ABSENT",
    "dotted_keys",
    "section_type",
    "type_name",
    "help_of",
    "hints_of",
    "unknown_key",
]
