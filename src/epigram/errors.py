"""The exception tree: every error of ours is also the builtin a caller would expect.

A message says where, what it got, what it expected and what to do about it. ``exit_code`` is what the
command line returns when the error reaches it.
"""

from __future__ import annotations

from pathlib import Path


class EpigramError(Exception):
    """Base of all errors raised on purpose by epigram."""

    exit_code = 2


class ConfigError(EpigramError, ValueError):
    """A setting, flag or config file is wrong."""


class DataError(EpigramError, ValueError):
    """A data set is missing, malformed, or does not fit the model."""


class FormatError(EpigramError, ValueError):
    """A file is not an epigram file, is damaged, or asks for more than the limits allow."""


class UnsupportedModelError(EpigramError, TypeError):
    """A model (or an operation in it) cannot be handled; the message names the operation."""


class RemovalError(EpigramError, RuntimeError):
    """A smaller network does not compute what the masked one computes."""


class FloorError(EpigramError, ValueError):
    """The floor asks for more than the plain network reaches."""


class RunFolderError(EpigramError, FileExistsError):
    """A run's folder belongs to another configuration."""


class NonFiniteError(EpigramError, ArithmeticError):
    """Training met a NaN or an infinity; ``bundle`` holds what is needed to replay the step."""

    exit_code = 4

    def __init__(self, message: str, *, bundle: Path | None = None) -> None:
        super().__init__(message)
        self.bundle = bundle


class LedgerError(EpigramError, ValueError):
    """A study's ledger is damaged; the message names the line."""


class LeakError(EpigramError, ValueError):
    """A forecaster was asked about a run that it has been fitted on."""


class ExecutorError(EpigramError, RuntimeError):
    """Trials cannot be started or looked after here."""


class FencedError(EpigramError, RuntimeError):
    """A later attempt at the same run has begun; this one may write nothing any more."""


class HeldError(EpigramError, TimeoutError):
    """Another attempt holds the run's files and does not let go of them."""


class StorageError(EpigramError, OSError):
    """A file could not be written; what was there before is untouched."""

    exit_code = 5


class InterruptedRunError(EpigramError, RuntimeError):
    """The run was asked to stop and did so in order; the same command goes on."""

    exit_code = 130
