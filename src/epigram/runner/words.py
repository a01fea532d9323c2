"""What is said to people about an ending: one clear line."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from pathlib import Path

from epigram.runner.protocol import Exit, Job

_TAIL, _LONGEST = 4096, 200


def note_on(end: Exit, job: Job, slot_verdict: str = "") -> Exit:
    """``end`` with a note: what happened, the last line of its errors, what became of its slot."""
    parts = [end.note or _what_happened(end, job)]
    if end.reason == "exit" and end.code:
        parts.append(last_line(job.folder / "stderr"))
    if slot_verdict and slot_verdict not in parts[0]:
        parts.append(f"its slot is quarantined: {slot_verdict}")
    return dataclasses.replace(end, note="; ".join(part for part in parts if part))


def last_line(path: Path) -> str:
    """The last line of a file that has something in it, printable and short; "" without one."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - _TAIL, 0))
        lines = file.read(_TAIL).decode("utf-8", "replace").splitlines()
        cleaned = ("".join(c for c in line if c.isprintable()).strip() for line in lines)
        words = [line for line in cleaned if line]
        if words:
            return words[-1] if len(words[-1]) <= _LONGEST else words[-1][:_LONGEST] + "…"
    return ""


def _what_happened(end: Exit, job: Job) -> str:
    if end.reason == "exit" and end.signal is not None:
        return _killed(end.signal, job)
    if end.reason == "exit" and end.code:
        return f"returned {end.code}"
    if end.signal == signal.SIGKILL and end.reason in ("stopped", "timeout"):
        return "did not end in time when asked, and was killed"
    return ""


def _killed(number: int, job: Job) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    words = f"killed by {name}, not by us"
    if number == signal.SIGKILL:
        return f"{words} (out of memory?)" + (f"; {job.oom_note}" if job.oom_note else "")
    if number == signal.SIGXFSZ:
        return f"{words}: wrote a file that is larger than allowed"
    return words
