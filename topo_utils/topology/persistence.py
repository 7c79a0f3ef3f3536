"""Persistent homology of flag filtrations, differentiable in the edge weights.

The pairing of births with deaths is combinatorial and needs no gradient. It says which *critical edge* gives each birth
and each death; the diagram then gathers those edges' weights, and autograd runs through the gather. Almost everywhere this
is the gradient of the diagram (Gameiro, Hiraoka & Obayashi, Physica D 334, 2016; Carrière et al., ICML 2021).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from topo_utils.topology._checks import check_weights

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

VERTEX = NEVER = -1  # in place of an edge: born with a vertex, at 0; never dies


class Diagram(NamedTuple):
    """Persistence diagrams of a batch of clouds in one homology dimension.

    Attributes
    ----------
    points
        Birth and death of each bar, ``(*batch, p, 2)``; padding has birth = death = 0.
    mask
        True where there is a bar, ``(*batch, p)``.
    """

    points: Float[Tensor, "*batch p 2"]
    mask: Bool[Tensor, "*batch p"]


def persistent_homology(
    weights: Float[Tensor, "*batch n n"], max_dimension: int = 1, essential: str = "drop", backend: str = "ripser"
) -> list[Diagram]:
    """Persistence diagrams of the flag filtration with the given edge weights, over the field with two elements.

    Parameters
    ----------
    weights
        Symmetric, non-negative, zero on the diagonal, ``+inf`` where there is no edge; see :func:`rips`, :func:`knn`.
    max_dimension
        0 for connected components only, 1 for loops too.
    essential
        What becomes of bars that never die: ``"drop"`` leaves them out, ``"cap"`` lets them end at the cloud's largest
        finite edge weight (a constant: no gradient flows through it).
    backend
        ``"ripser"`` pairs by ripser (Bauer, J. Appl. Comput. Topol. 5, 2021), whose values are float32: weights that
        agree in float32 are tied, and a bar may then name any of them as its critical edge.

    Returns
    -------
    list of Diagram
        One a dimension, bars in the order of birth, then death. Bars of length zero are left out.

    Raises
    ------
    TypeError, ValueError
        ``weights`` is not such a matrix, or an option has an unknown value.
    """
    check_weights("weights", weights)
    _check_option("max_dimension", max_dimension, (0, 1))
    _check_option("essential", essential, ("drop", "cap"))
    _check_option("backend", backend, ("ripser",))
    *batch, n, _ = weights.shape
    clouds = weights.detach().reshape(-1, n, n).cpu().numpy()
    pairings = [_pair_with_ripser(cloud, max_dimension) for cloud in clouds]
    return [
        _gather(weights, [pairing[dimension] for pairing in pairings], batch, essential)
        for dimension in range(max_dimension + 1)
    ]


def _check_option(name: str, value: object, allowed: tuple) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: wanted one of {', '.join(map(repr, allowed))}, got {value!r}")


def _pair_with_ripser(weights: np.ndarray, max_dimension: int) -> list[np.ndarray]:
    """Critical edges ``(p, 2)`` a dimension, as flat indices i·n + j with i < j, or VERTEX and NEVER."""
    from ripser import ripser  # here, so that this package imports without it

    n = len(weights)
    i, j = np.triu_indices(n, 1)
    flat, values = i * n + j, weights[i, j].astype(np.float32)
    finite = np.isfinite(values)
    if not finite.any():
        return [np.full((n, 2), (VERTEX, NEVER)), *[np.empty((0, 2), dtype=int)] * max_dimension]
    order = np.argsort(values[finite], kind="stable")
    flat, values = flat[finite][order], values[finite][order]
    threshold = np.inf if finite.all() else float(values[-1])  # with absent edges ripser would admit them at +inf
    diagrams = ripser(weights.astype(np.float32), maxdim=max_dimension, thresh=threshold, distance_matrix=True)["dgms"]
    pairs = [np.stack([_edges(flat, values, column) for column in bars.T], axis=1) for bars in diagrams]
    pairs[0][:, 0] = VERTEX
    return pairs


def _edges(flat: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Edge of each wanted value, given edges sorted by value; equal wanted values take their tied edges in turn."""
    wanted = wanted.astype(np.float32)
    order = np.argsort(wanted, kind="stable")
    turn = np.empty(len(wanted), dtype=int)
    turn[order] = np.arange(len(wanted)) - np.searchsorted(wanted[order], wanted[order], side="left")
    first, last = (np.searchsorted(values, wanted, side=side) for side in ("left", "right"))
    return np.where(np.isinf(wanted), NEVER, flat[np.minimum(first + turn, np.maximum(last - 1, 0))])


def _gather(weights: Tensor, pairs: list[np.ndarray], batch: list[int], essential: str) -> Diagram:
    """Diagram whose births and deaths are the weights of the critical edges ``pairs``, one array a cloud."""
    n = weights.shape[-1]
    longest = max((len(edges) for edges in pairs), default=0)
    padded = np.full((len(pairs), longest, 2), VERTEX)
    mask = np.zeros((len(pairs), longest), dtype=bool)
    for cloud, edges in enumerate(pairs):
        padded[cloud, : len(edges)] = edges
        mask[cloud, : len(edges)] = True
    edges, mask = torch.from_numpy(padded).to(weights.device), torch.from_numpy(mask).to(weights.device)
    flat = weights.reshape(-1, n * n)
    points = flat.gather(1, edges.clamp(min=0).flatten(1)).view(edges.shape)
    births, deaths = points.where(edges >= 0, 0).unbind(-1)
    endless = edges[..., 1] == NEVER
    if essential == "drop":
        mask = mask & ~endless
    else:
        cap = flat.detach().where(flat.isfinite(), 0).amax(1, keepdim=True)
        deaths = deaths.where(~endless, cap)
    mask = mask & (deaths > births)
    return _compact(torch.stack([births, deaths], dim=-1), mask, batch)


def _compact(points: Tensor, mask: Tensor, batch: list[int]) -> Diagram:
    """Sort bars by birth and death, move padding behind them and cut what no cloud of the batch needs."""
    keys = points.detach().masked_fill(~mask[..., None], torch.inf)
    order = keys[..., 1].argsort(dim=1, stable=True)
    order = order.gather(1, keys[..., 0].gather(1, order).argsort(dim=1, stable=True))
    order = order[:, : int(mask.sum(1).max()) if mask.numel() else 0]
    mask = mask.gather(1, order)
    points = points.gather(1, order[..., None].expand(-1, -1, 2)).where(mask[..., None], 0)
    bars = points.shape[1]
    return Diagram(points.reshape(*batch, bars, 2), mask.reshape(*batch, bars))
