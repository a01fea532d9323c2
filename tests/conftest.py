"""What every test stands on: shapes and types checked, fixed seeds, one thread."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import settings
from tests.shape_checks import check

jaxtyping.install_import_hook("epigram", f"{check.__module__}.{check.__name__}")

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for processes that tests start
os.environ.setdefault("MPLBACKEND", "Agg")
torch.set_num_threads(1)

settings.register_profile("epigram", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("epigram")


@pytest.fixture(autouse=True)
def _fixed_seeds() -> Iterator[None]:
    """Every test starts from the same random state and leaves torch's defaults as they were."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    dtype, deterministic = torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_default_dtype(dtype)
    torch.use_deterministic_algorithms(deterministic)
