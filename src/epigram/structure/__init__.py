"""Which units of a network fall together, and surgery that removes them from plain modules."""

from epigram.structure.analyse import OnFailure, analyse
from epigram.structure.exact import why_not_exact
from epigram.structure.fit import (
    check_numbers,
    followed_numbers,
    merged_numbers,
    resize_to_shapes_,
    set_attributes_,
)
from epigram.structure.grouping import SizedStructure
from epigram.structure.plan import Plan, rebase, slice_plan
from epigram.structure.rounding import round_masks
from epigram.structure.state import extra_state, load_tensors_, state_tensors
from epigram.structure.surgery import mask_units, remove_units, shrink_parameters_
from epigram.structure.verify import verify_removal

__all__ = [
    "OnFailure",
    "Plan",
    "SizedStructure",
    "analyse",
    "check_numbers",
    "extra_state",
    "followed_numbers",
    "load_tensors_",
    "mask_units",
    "merged_numbers",
    "rebase",
    "remove_units",
    "resize_to_shapes_",
    "round_masks",
    "set_attributes_",
    "shrink_parameters_",
    "slice_plan",
    "state_tensors",
    "verify_removal",
    "why_not_exact",
]
