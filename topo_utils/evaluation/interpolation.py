"""Interpolation in latent space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from topo_utils.models.vae import VAE
from topo_utils.seed import generator

if TYPE_CHECKING:
    from jaxtyping import Float


def linear_path(start: Float[Tensor, "n d"], end: Float[Tensor, "n d"], steps: int) -> Float[Tensor, "n steps d"]:
    """Straight lines from ``start`` to ``end``, both ends included; steps >= 2."""
    if start.shape != end.shape or start.ndim != 2:
        raise ValueError(f"start and end: wanted the same shape (n, d), got {tuple(start.shape)} and {tuple(end.shape)}")
    if steps < 2:
        raise ValueError(f"steps: wanted at least 2, got {steps}")
    t = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device)[:, None]
    return start[:, None] * (1 - t) + end[:, None] * t


@torch.no_grad()
def cycle_error(model: VAE, items: Float[Tensor, "n c h w"], pairs: int = 200, steps: int = 11, seed: int = 0) -> float:
    """Mean of ‖x_t - G(E(x_t))‖² over the inner points x_t of linear latent paths between random pairs of items.

    How far the decoded path is from what the model can reproduce. A model whose images are all alike scores well, so read
    it beside the reconstruction error.

    Parameters
    ----------
    items
        Items to draw the ends from, at least two.
    pairs
        Number of paths.
    steps
        Points a path, the ends included; at least three.

    Returns
    -------
    float
        Squared error summed over the pixels.
    """
    if len(items) < 2 or pairs < 1 or steps < 3:
        raise ValueError(f"wanted 2 items, 1 pair and 3 steps or more, got {len(items)}, {pairs} and {steps}")
    stream = generator(seed, "interpolation")
    starts = torch.randint(len(items), (pairs,), generator=stream)
    others = torch.randint(1, len(items), (pairs,), generator=stream)
    codes = model.encode(items).mean
    path = linear_path(codes[starts], codes[(starts + others) % len(items)], steps)[:, 1:-1]
    decoded = model.decode(path.flatten(0, 1))
    return (decoded - model.reconstruct(decoded)).square().flatten(1).sum(1).mean().item()
