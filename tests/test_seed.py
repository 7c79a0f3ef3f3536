from __future__ import annotations

import random

import numpy as np
import torch

from topo_utils.seed import derive, generator, seed_everything


def test_streams_are_reproducible_and_differ_by_seed_and_name():
    assert derive(0, "a") == derive(0, "a")
    assert len({derive(0, "a"), derive(1, "a"), derive(0, "b"), derive(0, "a", 1)}) == 4
    assert all(0 <= derive(seed, "x") < 2**63 for seed in range(100))
    assert torch.equal(torch.rand(3, generator=generator(5, "x")), torch.rand(3, generator=generator(5, "x")))


def test_all_global_generators_are_seeded():
    def draw():
        seed_everything(3, "x")
        return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002

    assert draw() == draw()
