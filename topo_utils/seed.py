"""One seed for a run; every use of randomness derives its own stream from it."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def derive(seed: int, *names: str | int) -> int:
    """Seed of the stream called ``names`` under the run's ``seed``: 63 bits of a SHA-256.

    Streams with different names are independent, so one more draw in one of them changes nothing in the others.
    """
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """CPU generator of the stream called ``names``."""
    return torch.Generator().manual_seed(derive(seed, *names))


def seed_everything(seed: int, *names: str | int) -> None:
    """Seed Python's, NumPy's and torch's global generators with the stream called ``names``."""
    value = derive(seed, *names)
    random.seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002  libraries below us (persim, scikit-learn) use the global generator
    torch.manual_seed(value)
