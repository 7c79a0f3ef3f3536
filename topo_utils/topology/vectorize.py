"""From diagrams to vectors of fixed length, differentiable in births and deaths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from topo_utils.topology._checks import check_finite, check_floating
from topo_utils.topology.persistence import Diagram

if TYPE_CHECKING:
    from jaxtyping import Float


def landscape(
    diagram: Diagram, grid: Float[Tensor, " grid"], levels: int | None = None
) -> Float[Tensor, "*batch levels grid"]:
    """Persistence landscapes on a grid: λ_k(t) is the k-th largest of max(0, min(t - b, d - t)) over the bars (b, d).

    Bubenik, "Statistical topological data analysis using persistence landscapes", JMLR 16, 2015, Definition 3; the tents
    have slope one, as in persim (gudhi's are √2 times as high).

    Parameters
    ----------
    diagram
        Bars of one homology dimension, ``(*batch, p, 2)``.
    grid
        Values of t, at least two and increasing, in the units of the edge weights.
    levels
        Number K of levels; levels beyond the number of bars are zero. None: as many as the diagram holds bars.

    Returns
    -------
    Tensor
        The dtype and device of the diagram.

    Raises
    ------
    TypeError, ValueError
        The grid is not such a sequence, or levels < 1.
    """
    check_floating("grid", grid)
    if grid.ndim != 1 or len(grid) < 2 or not (grid.diff() > 0).all():
        raise ValueError(f"grid: wanted at least two increasing values, got the shape {tuple(grid.shape)}")
    check_finite("grid", grid)
    if levels is not None and levels < 1:
        raise ValueError(f"levels: wanted at least 1, got {levels}")
    bars = diagram.points.shape[-2]
    levels = bars if levels is None else levels
    births, deaths = diagram.points[..., None].unbind(-2)
    tents = torch.minimum(grid.to(births) - births, deaths - grid.to(births)).clamp(min=0)
    highest = tents.topk(min(levels, bars), dim=-2).values
    return torch.nn.functional.pad(highest, (0, 0, 0, levels - highest.shape[-2]))
