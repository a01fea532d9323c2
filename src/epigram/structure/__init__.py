"""Which units of a network fall together, and surgery that removes them from plain modules."""

from epigram.structure.analyse import analyse
from epigram.structure.fit import resize_to_shapes_
from epigram.structure.grouping import SizedStructure
from epigram.structure.plan import rebase, slice_plan
from epigram.structure.surgery import mask_units, remove_units, shrink_parameters_
from epigram.structure.verify import verify_removal

__all__ = [
    "SizedStructure",
    "analyse",
    "mask_units",
    "rebase",
    "remove_units",
    "resize_to_shapes_",
    "shrink_parameters_",
    "slice_plan",
    "verify_removal",
]
