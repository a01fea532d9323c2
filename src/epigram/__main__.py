"""``python -m epigram`` is ``epigram``."""

from __future__ import annotations

import sys

from epigram.cli import main

if __name__ == "__main__":
    sys.exit(main())
