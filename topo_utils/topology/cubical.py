"""Persistent homology of grey-value images, differentiable in the pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from topo_utils.topology._checks import check_finite, check_floating, check_option
from topo_utils.topology.persistence import NEVER, Diagram, Pairing, gather, padded

if TYPE_CHECKING:
    from jaxtyping import Float


def cubical_persistence(
    images: Float[Tensor, "*batch h w"], sublevel: bool = True, essential: str = "drop"
) -> list[Diagram]:
    """Persistence diagrams of images, H0 and H1, over the field with two elements, by gudhi's cubical complexes.

    Every pixel is a square that enters at its grey value and brings its edges and corners with it, so that pixels which
    touch at a corner are connected (8-connectivity) and the background is 4-connected (Wagner, Chen & Vuçini, "Efficient
    computation of persistent homology for cubical data", 2012). A birth or death is the value of one *critical pixel*,
    through which the gradient flows.

    Parameters
    ----------
    images
        Grey values, finite, float32 or float64, at least one pixel.
    sublevel
        True: dark pixels enter first. False: bright pixels enter first; births and deaths are then those of the negated
        image, so that births still come before deaths.
    essential
        ``"drop"`` leaves out the one component that never dies; ``"cap"`` lets it end at the last pixel's value, without a
        gradient.

    Returns
    -------
    list of Diagram
        H0 and H1, bars in the order of birth. Bars of length zero are left out.

    Raises
    ------
    TypeError, ValueError
        ``images`` are not such tensors, or ``essential`` has an unknown value.
    """
    check_floating("images", images)
    if images.ndim < 2 or not images.shape[-1] or not images.shape[-2]:
        raise ValueError(f"images: wanted the shape (*batch, h, w) with at least one pixel, got {tuple(images.shape)}")
    check_finite("images", images)
    check_option("essential", essential, ("drop", "cap"))
    values = images if sublevel else -images
    pairings = _pair(values.detach().reshape(-1, *images.shape[-2:]).cpu().numpy())
    return gather(values.flatten(-2), pairings, essential)


def _pair(images: np.ndarray) -> list[Pairing]:
    """Critical pixels of each image, flat in row order, H0 and H1."""
    pairs = [_pair_one(image) for image in images]
    return [padded([bars[dimension] for bars in pairs]) for dimension in (0, 1)]


def _pair_one(image: np.ndarray) -> list[np.ndarray]:
    from gudhi import CubicalComplex  # here, so that this package imports without it

    # gudhi's first axis runs fastest: of the transposed image it numbers the pixels as rows of the image do
    complex_ = CubicalComplex(dimensions=image.shape[::-1], top_dimensional_cells=image.ravel())
    complex_.compute_persistence(homology_coeff_field=2)
    finite, endless = complex_.cofaces_of_persistence_pairs()
    values = image.ravel()
    bars = []
    for dimension in (0, 1):
        closed = (
            np.asarray(finite[dimension], dtype=int).reshape(-1, 2) if dimension < len(finite) else np.empty((0, 2), int)
        )
        open_ = np.asarray(endless[dimension], dtype=int).ravel() if dimension < len(endless) else np.empty(0, int)
        closed = closed[values[closed[:, 1]] > values[closed[:, 0]]]
        cells = np.concatenate([closed, np.stack([open_, np.full(len(open_), NEVER)], axis=1)])
        bars.append(cells[np.argsort(values[cells[:, 0]], kind="stable")])
    return bars
