"""A run's folder: one configuration, one process at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, final

from epigram import atomic
from epigram.config import differences, identity
from epigram.errors import ConfigError, RunFolderError, StorageError

_LOCK = ".lock"
_CONFIG = "config.json"
_RESULT = "result.json"
_SOURCE = re.compile(r"(?P<name>.+)#[0-9a-f]{16}")


@final
class RunFolder:
    """Claims a folder for a configuration while the block lasts.

    A new (or empty) folder gets ``config.json``: the configuration, its identity, the bookkeeping and
    the environment it was started with. A folder of the same configuration is gone on with. The lock
    goes with the process, however it ends.

    Args:
        path: the folder.
        config: the complete configuration as plain data; it makes the identity. Its ``code`` stands
            for epigram's own sources.
        bookkeeping: settings that change nothing that is computed, for the record; not compared.
        environment: versions and machine, for the record; not compared.

    Raises (on entering):
        RunFolderError: it holds another configuration (the message lists the settings that differ,
            or says that epigram's code has changed),
            something that is no run, or another process is training in it.
        StorageError: it cannot be created or written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     with RunFolder(Path(parent) / "a", {"seed": 0}) as run:
        ...         run.metrics.name
        'metrics.jsonl'
    """

    def __init__(
        self,
        path: str | Path,
        config: Mapping[str, Any],
        *,
        bookkeeping: Mapping[str, Any] | None = None,
        environment: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self.config = dict(config)
        self.identity = identity(config)
        self.bookkeeping = dict(bookkeeping or {})
        self.environment = dict(environment or {})
        self._lock: IO[bytes] | None = None

    @property
    def metrics(self) -> Path:
        """One JSON object per epoch."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """One file per stage."""
        return self.path / "checkpoints"

    @property
    def frames(self) -> Path:
        """Weights per epoch, for the movies."""
        return self.path / "frames"

    def __enter__(self) -> RunFolder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                error.errno, f"could not make the run folder {self.path}: {error.strerror}"
            ) from error
        self._refuse_strangers()
        self._take_lock()
        try:
            self._claim()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._release()

    def _refuse_strangers(self) -> None:
        if (self.path / _CONFIG).exists():
            return
        others = sorted(p.name for p in self.path.iterdir() if not p.name.startswith("."))
        if others:
            raise RunFolderError(
                f"{self.path} holds {', '.join(others[:3])}{' …' if others[3:] else ''} but no "
                f"{_CONFIG}: it is not a run's folder. Choose a new or an empty one"
            )

    def _take_lock(self) -> None:
        try:
            self._lock = atomic.claim_lock(self.path / _LOCK, doing="is training in this folder")
        except RunFolderError:
            raise
        except OSError as error:
            raise StorageError(
                error.errno, f"could not write in the run folder {self.path}: {error.strerror}"
            ) from error

    def _claim(self) -> None:
        path = self.path / _CONFIG
        if not path.exists():
            atomic.write_json(
                path,
                {
                    "identity": self.identity,
                    "config": self.config,
                    "bookkeeping": self.bookkeeping,
                    "environment": self.environment,
                },
            )
            return
        stored = read_config(self.path)
        if stored["identity"] != self.identity:
            raise self._refusal(differences(stored["config"], self.config))

    def _refusal(self, differ: Mapping[str, tuple[Any, Any]]) -> RunFolderError:
        """Why this folder cannot be gone on with: the code first, since everything follows from it."""
        if "code" in differ:
            why = "a run goes on to the bit only with the code it was begun with"
            if (self.path / _RESULT).exists():
                why = (
                    "its result was made by other code; report, compare and evaluate still read it"
                )
            return RunFolderError(
                f"{self.path}: epigram's code has changed since; start in another folder ({why})"
            )
        listed = "; ".join(_told(key, there, here) for key, (there, here) in differ.items())
        return RunFolderError(
            f"{self.path} belongs to a run with other settings ({listed}). Choose another folder, "
            "or the settings it was started with"
        )

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _told(key: str, there: Any, here: Any) -> str:
    """One difference in words; of ``name#digest`` only the name means something to a person."""
    then, now = (_SOURCE.fullmatch(str(value)) for value in (there, here))
    if then and now and then["name"] == now["name"]:
        return f"{key}: {now['name']} has changed (its source, or values that it carries)"
    return f"{key}: {there!r} there, {here!r} now"


def read_config(folder: str | Path) -> dict[str, Any]:
    """What ``config.json`` says: ``identity``, ``config``, ``bookkeeping``, ``environment``.

    Raises:
        RunFolderError: there is none, or it is not one of ours.
    """
    path = Path(folder) / _CONFIG
    try:
        stored = json.loads(path.read_text("utf-8"))
        if not isinstance(stored["identity"], str) or not isinstance(stored["config"], dict):
            raise TypeError("identity and config are missing")
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise RunFolderError(f"{folder}: not a run's folder: {path.name}: {error}") from error
    return {"bookkeeping": {}, "environment": {}, **stored}
