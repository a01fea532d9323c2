"""What a reader is willing to be asked for."""

from __future__ import annotations

from dataclasses import dataclass

from epigram.errors import FormatError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Caps that are checked before memory is taken; raise them for larger networks.

    Args:
        max_file_bytes: length of a file.
        max_tensors: tensors (and groups, and metadata entries) in a file.
        max_rank: axes of a tensor.
        max_elements: values of all tensors together, dead positions included.
        max_text_bytes: names and metadata together.
        max_mask_bits: tensors, units and positions that the masks of a file speak of, together; they are read one by one.
    """

    max_file_bytes: int = 1 << 31
    max_tensors: int = 1 << 14
    max_rank: int = 16
    max_elements: int = 1 << 27
    max_text_bytes: int = 1 << 18
    max_mask_bits: int = 1 << 20

    def check(self, what: str, got: int, cap: str) -> int:
        """Return ``got`` if it is at most the cap called ``cap``.

        Raises:
            FormatError: it is larger.
        """
        allowed: int = getattr(self, cap)
        if got > allowed:
            raise FormatError(
                f"{what}: got {got}, expected at most {allowed}; "
                f"if the file is to be trusted, pass limits=Limits({cap}={got})"
            )
        return got
