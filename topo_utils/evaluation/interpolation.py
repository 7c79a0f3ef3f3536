"""Interpolation in latent space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from topo_utils.evaluation.checks import check_items
from topo_utils.seed import generator
from topo_utils.topology.checks import check_count

if TYPE_CHECKING:
    from jaxtyping import Float


def linear_path(start: Float[Tensor, "n d"], end: Float[Tensor, "n d"], steps: int) -> Float[Tensor, "n steps d"]:
    """Straight lines from ``start`` to ``end``, both ends included; steps >= 2."""
    if start.shape != end.shape or start.ndim != 2:
        raise ValueError(f"start and end: wanted the same shape (n, d), got {tuple(start.shape)} and {tuple(end.shape)}")
    check_count("steps", steps, 2)
    t = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device)[:, None]
    return start[:, None] * (1 - t) + end[:, None] * t


@torch.no_grad()
def cycle_error(model: nn.Module, items: Float[Tensor, "n ..."], pairs: int = 200, steps: int = 11, seed: int = 0) -> float:
    """Mean of ‖x_t - G(E(x_t))‖² over the inner points x_t of linear latent paths between random pairs of items.

    How far the decoded path is from what the model can reproduce. A model whose images are all alike scores well, so read
    it beside the reconstruction error.

    Parameters
    ----------
    model
        Has ``encode``, which gives a posterior with a ``mean``, and ``decode``.
    items
        Items to draw the ends from, at least two, finite.
    pairs
        Number of paths.
    steps
        Points a path, the ends included; at least three.

    Returns
    -------
    float
        Squared error summed over the pixels.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.
    """
    check_items("items", items, tuple(items.shape[1:]), least=2)
    check_count("pairs", pairs)
    check_count("steps", steps, 3)
    stream = generator(seed, "interpolation")
    starts = torch.randint(len(items), (pairs,), generator=stream)
    others = torch.randint(1, len(items), (pairs,), generator=stream)
    codes = model.encode(items).mean
    path = linear_path(codes[starts], codes[(starts + others) % len(items)], steps)[:, 1:-1]
    decoded = model.decode(path.flatten(0, 1))
    return (decoded - model.decode(model.encode(decoded).mean)).square().flatten(1).sum(1).mean().item()
