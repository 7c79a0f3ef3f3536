"""Persistent homology of flag filtrations, differentiable in the edge weights.

The pairing of births with deaths is combinatorial and needs no gradient. It says which *critical edge* gives each birth
and each death; the diagram then gathers those edges' weights, and autograd runs through the gather. Almost everywhere this
is the gradient of the diagram (Gameiro, Hiraoka & Obayashi, Physica D 334, 2016; Carrière et al., ICML 2021).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from topo_utils.topology._autograd import on_host
from topo_utils.topology.checks import (
    check_count,
    check_dtype,
    check_floating,
    check_number,
    check_option,
    check_weights,
)
from topo_utils.topology.filtrations import Graph, check_graph

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

_FULL = 20  # where at least one pair in so many is an edge, rows of a matrix are faster than lists, and as small
VERTEX = NEVER = -1  # in place of an edge: born with a vertex, at 0; never dies


class Diagram(NamedTuple):
    """Persistence diagrams of a batch of clouds in one homology dimension.

    Attributes
    ----------
    points
        Birth and death of each bar, ``(*batch, p, 2)``; births are finite, a bar that never dies has the death ``+inf``,
        padding has birth = death = 0.
    mask
        True where there is a bar, ``(*batch, p)``.
    """

    points: Float[Tensor, "*batch p 2"]
    mask: Bool[Tensor, "*batch p"]


def check_diagram(name: str, diagram: Diagram, endless: bool = True) -> None:
    """Raise unless ``diagram`` is a :class:`Diagram` of sound bars: birth finite, birth <= death, and zeros as padding.

    A bar may have length zero, and its death may be ``+inf`` unless ``endless`` is false.

    Raises
    ------
    TypeError, ValueError
        It is no such diagram; the message names the first bar that is not sound.
    """
    if not isinstance(diagram, Diagram):
        raise TypeError(f"{name}: wanted a Diagram (one homology dimension), got {type(diagram).__name__}")
    points, mask = diagram
    check_floating(f"{name}.points", points)
    check_dtype(f"{name}.mask", mask, torch.bool)
    if mask.ndim < 1 or points.shape != (*mask.shape, 2):
        shapes = f"{tuple(points.shape)} and {tuple(mask.shape)}"
        raise ValueError(f"{name}: wanted points (*batch, p, 2) and a mask (*batch, p), got {shapes}")
    births, deaths = points.detach().unbind(-1)
    sound = births.isfinite() & (births <= deaths) & (mask | (births == 0) & (deaths == 0))
    if not endless:
        sound = sound & deaths.isfinite()
    if not sound.all():
        _name_unsound(name, diagram, ~sound)


def _name_unsound(name: str, diagram: Diagram, unsound: Bool[Tensor, "*batch p"]) -> None:
    """Raise for the first unsound bar."""
    if diagram.points.isnan().any():
        raise ValueError(f"{name}: wanted numbers, got NaN at {tuple(diagram.points.isnan().nonzero()[0].tolist())}")
    where = tuple(unsound.nonzero()[0].tolist())
    birth, death = diagram.points[where].tolist()
    got = f"got ({birth:g}, {death:g}) at {where}"
    if not diagram.mask[where]:
        raise ValueError(f"{name}: wanted birth = death = 0 where the mask is false, {got}")
    if not math.isfinite(birth):
        raise ValueError(f"{name}: wanted finite births, {got}")
    if birth > death:
        raise ValueError(f"{name}: wanted birth <= death, {got}")
    raise ValueError(
        f"{name}: wanted bars that end, {got}; leave endless bars out or let them end (essential='drop' or 'cap' where "
        "the diagram is made)"
    )


class Pairing(NamedTuple):
    """Critical cells of the bars of a batch of clouds in one homology dimension, in the order of birth.

    Attributes
    ----------
    cells
        Flat indices of the cells (edges i·n + j, or pixels) of birth and death, ``(clouds, p, 2)``; or VERTEX, NEVER.
    counts
        Number of bars of each cloud; the rest is padding.
    """

    cells: np.ndarray
    counts: np.ndarray


def persistent_homology(
    weights: Float[Tensor, "*batch n n"] | Graph,
    max_dimension: int = 1,
    essential: str = "drop",
    backend: str = "flag",
    end: float | None = None,
) -> list[Diagram]:
    """Persistence diagrams of the flag filtration with the given edge weights, over the field with two elements.

    Parameters
    ----------
    weights
        Symmetric, non-negative, zero on the diagonal, ``+inf`` where there is no edge; see :func:`rips`, :func:`knn`. A
        weighted graph is given by its weights as they are (its clique filtration). Or one :class:`Graph`, a list of edges,
        such as :func:`neighbour_graph` gives: tens of thousands of points, with memory that goes with the edges. Its
        diagrams have no batch dimension.
    max_dimension
        0 for connected components only, 1 for loops too; with ``backend="ripser"`` 2 and more for voids and so on.
    essential
        What becomes of bars that never die: ``"drop"`` leaves them out, ``"cap"`` lets them end at ``end`` (a constant: no
        gradient flows through it), and leaves out those that are born no earlier.
    backend
        ``"flag"``: this project's kernel (:mod:`topo_utils.topology._flag`), exact in float32 and float64, on all cores;
        its first use on a machine compiles it, which takes a while; later ones read the compiled code.
        ``"ripser"``: Bauer, J. Appl. Comput. Topol. 5, 2021, whose values are float32: weights that agree in float32 are
        tied, and a bar may then name any of them as its critical edge.
    end
        Of bars that never die, with ``essential="cap"``. None: each cloud's largest finite edge weight; give a number where
        diagrams of several clouds are compared.

    Returns
    -------
    list of Diagram
        One a dimension, bars in the order of birth. Bars of length zero are left out.

    Raises
    ------
    TypeError, ValueError
        ``weights`` is not such a matrix, or an option has an unknown value.

    Notes
    -----
    Beside the kernel a call reads the matrix once, to check it, and the critical edges; for a small cloud the dozen torch
    functions that wrap its arrays take as long as these together: some hundredths of a millisecond in a warm cache, a
    fifth of one in a cold one. Clouds of a batch share them. Edges are not collapsed first: that alone takes many times as
    long as the pairing (``make bench``). Tens of thousands of points need another filtration: see :func:`neighbour_graph`,
    :func:`max_min_landmarks`.
    """
    sparse = isinstance(weights, Graph)
    host = (check_graph if sparse else check_weights)("weights", weights)
    check_option("backend", backend, ("flag",) if sparse else tuple(_BACKENDS))
    check_option("essential", essential, ("drop", "cap"))
    check_count("max_dimension", max_dimension, 0)
    if end is not None:
        check_number("end", end, least=0)
        check_option("essential", essential, ("cap",))
    if backend == "flag" and max_dimension > 1:
        raise ValueError(f"max_dimension: wanted 0 or 1 (more with backend='ripser'), got {max_dimension}")
    if sparse:
        return gather(weights.weights, _graph_pairings(weights, max_dimension), essential, end)
    return flag_diagrams(weights, host, max_dimension, essential, backend, end)


def _graph_pairings(graph: Graph, max_dimension: int) -> list[Pairing]:
    """Critical edges of the bars of a graph, by their places in its list; one pairing a dimension."""
    from topo_utils.topology import _flag  # here: numba takes a second to import

    edges, weights = graph.edges.cpu().numpy(), graph.weights.detach().cpu().numpy()
    few = _FULL * 2 * len(edges) < graph.points**2 or graph.points > _flag.LARGEST
    return (_by_lists if few else _by_matrix)(edges, weights, graph.points, max_dimension)


def _by_matrix(edges: np.ndarray, weights: np.ndarray, points: int, max_dimension: int) -> list[Pairing]:
    places = edges[:, 0] * points + edges[:, 1]
    matrix = np.full((1, points, points), np.inf, weights.dtype)
    matrix[0, edges[:, 0], edges[:, 1]] = matrix[0, edges[:, 1], edges[:, 0]] = weights
    np.fill_diagonal(matrix[0], 0)
    order = np.argsort(places)
    found = _pair_with_flag(matrix, max_dimension)
    where = [np.searchsorted(places[order], cells) for cells, _ in found]
    return [
        Pairing(np.where(cells < 0, cells, order[at]), counts) for at, (cells, counts) in zip(where, found, strict=True)
    ]


def _by_lists(edges: np.ndarray, weights: np.ndarray, points: int, max_dimension: int) -> list[Pairing]:
    from topo_utils.topology import _flag, _graph  # here: numba takes a second to import

    order = _flag.order_of(edges[:, 0] * points + edges[:, 1], weights)
    first, second = (edges[:, side].astype(np.int32)[order] for side in (0, 1))
    forest, births, deaths = (each.astype(int) for each in _graph.cycles(points, first, second, max_dimension > 0))
    values = weights[order]
    components = np.full((points - (values[forest] == 0).sum(), 2), VERTEX)
    forest = forest[values[forest] > 0]
    components[: len(forest), 1] = order[forest]
    lasts = (deaths < 0) | (values[deaths] > values[births])
    loops = np.stack([order[births], np.where(deaths < 0, NEVER, order[deaths])], 1)[lasts]
    return [Pairing(each[None], np.array([len(each)])) for each in (components, loops)[: max_dimension + 1]]


def flag_diagrams(
    weights: Tensor, host: np.ndarray, max_dimension: int, essential: str, backend: str = "flag", end: float | None = None
) -> list[Diagram]:
    """:func:`persistent_homology` of weights that are known to be sound, and are on the host, too; ``end`` as there."""
    pairings = _BACKENDS[backend](host, max_dimension)
    return _diagrams(weights.flatten(-2), host.reshape(len(host), -1), pairings, essential, end)


def flag_pairings(weights: Tensor, max_dimension: int) -> list[Pairing]:
    """Critical edges of the bars of clouds ``(*batch, n, n)``, all batch dimensions in one; one pairing a dimension."""
    return _pair_with_flag(on_host(weights), max_dimension)


def gather(values: Tensor, pairings: list[Pairing], essential: str, end: float | None = None) -> list[Diagram]:
    """Diagrams whose births and deaths are the filtration values ``(*batch, cells)`` of the critical cells.

    With ``essential="cap"`` bars that never die end at ``end``; None: at the largest finite value of their cloud.
    """
    host = values.detach().reshape(math.prod(values.shape[:-1]), values.shape[-1])
    return _diagrams(values, host.contiguous().cpu().numpy(), pairings, essential, end)


def _diagrams(
    values: Tensor, host: np.ndarray, pairings: list[Pairing], essential: str, end: float | None
) -> list[Diagram]:
    """:func:`gather`, given the values ``(clouds, cells)`` on the host, too.

    A torch function takes longer than all of this does for a small cloud, so that there are few.
    """
    from topo_utils.topology import _weights  # here: numba takes a second to import

    batch = tuple(values.shape[:-1])
    cap = essential == "cap"
    ends = np.full(len(host), end or 0, host.dtype) if end is not None or not cap else _weights.largest_finite(host)
    found = [_weights.bars(host, cells, counts, cap, ends) for cells, counts in pairings]
    masks = [_tensor(mask.reshape(*batch, mask.shape[1]), values) for *_, mask in found]
    if torch.is_grad_enabled() and values.requires_grad:
        flat = values.reshape(len(host), values.shape[-1])
        points = _BirthsAndDeaths.apply(flat, [cells for cells, _, _ in found], [points for _, points, _ in found])
        return [Diagram(each.view(*mask.shape, 2), mask) for each, mask in zip(points, masks, strict=True)]
    return [
        Diagram(_tensor(points.reshape(*mask.shape, 2), values), mask)
        for (_, points, _), mask in zip(found, masks, strict=True)
    ]


def _tensor(array: np.ndarray, like: Tensor) -> Tensor:
    tensor = torch.from_numpy(array)
    return tensor if like.device.type == "cpu" else tensor.to(like.device)


class _BirthsAndDeaths(torch.autograd.Function):
    """Values ``(clouds, m)`` of critical cells ``(clouds, p, 2)``, one tensor a homology dimension; ends are constants."""

    @staticmethod
    def forward(ctx, values: Tensor, cells: list[np.ndarray], points: list[np.ndarray]) -> tuple[Tensor, ...]:
        ctx.cells, ctx.shape = cells, values.shape
        return tuple(torch.from_numpy(each).to(values.device) for each in points)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple:
        pulls = gradients[0].new_zeros(ctx.shape)
        for each, gradient in zip(ctx.cells, gradients, strict=True):
            cells = torch.from_numpy(each.reshape(len(each), -1)).to(gradient.device)
            there = gradient.reshape(cells.shape).where(cells >= 0, 0)  # views that vmap knows, for batched gradients
            pulls = pulls.scatter_add(1, cells.clamp(min=0), there)
        return pulls, None, None


def padded(pairs: list[np.ndarray]) -> Pairing:
    """One pairing of the bars ``(p, 2)`` of each cloud."""
    counts = np.array([len(bars) for bars in pairs], dtype=int)
    cells = np.full((len(pairs), counts.max(initial=0), 2), NEVER)
    for cloud, bars in enumerate(pairs):
        cells[cloud, : len(bars)] = bars
    return Pairing(cells, counts)


def _pair_with_flag(clouds: np.ndarray, max_dimension: int) -> list[Pairing]:
    from topo_utils.topology import _flag  # here: numba takes a second to import

    return [Pairing(*pairs) for pairs in _flag.pair(clouds, max_dimension)]


def _pair_with_ripser(clouds: np.ndarray, max_dimension: int) -> list[Pairing]:
    pairs = [_pair_one_with_ripser(cloud, max_dimension) for cloud in clouds]
    return [padded([bars[dimension] for bars in pairs]) for dimension in range(max_dimension + 1)]


def _pair_one_with_ripser(weights: np.ndarray, max_dimension: int) -> list[np.ndarray]:
    """Critical edges of one cloud, ``(p, 2)`` a dimension, recovered from ripser's values."""
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
    longer = [bars[bars[:, 1] > bars[:, 0]] for bars in diagrams]
    ordered = [bars[np.lexsort((bars[:, 1], bars[:, 0]))] for bars in longer]
    pairs = [np.stack([_edges(flat, values, column) for column in bars.T], axis=1) for bars in ordered]
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


_BACKENDS = {"flag": _pair_with_flag, "ripser": _pair_with_ripser}
