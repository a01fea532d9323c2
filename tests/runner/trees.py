"""Command lines of trials that try to outlive their end, and of one that does as it is asked."""

from __future__ import annotations

import sys

DAEMON = f"""{sys.executable} -I -S -c '
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)
os.wait()
'; """
"""A helper with two children, and a daemon that has left the session twice over; then SIGTERM is ignored."""
EVERYTHING = (
    "trap '' TERM HUP INT; sh -c 'sleep 1000 & sleep 1000' & "
    f'{DAEMON} touch "$EPIGRAM_ATTEMPT_DIR/ready"; sleep 1000'
)
HOSTILE = ("sh", "-c", EVERYTHING)
LISTENS = (
    "sh",
    "-c",
    "trap 'exit 0' TERM; touch $EPIGRAM_ATTEMPT_DIR/ready; while :; do sleep 0.05; done",
)
