"""Persistent homology of images and volumes of grey values, differentiable in them; and Betti numbers of masks, counted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from topo_utils.topology.checks import check_finite, check_floating, check_option
from topo_utils.topology.persistence import NEVER, Diagram, Pairing, gather, padded

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


CONNECTIVITIES = {2: (4, 8), 3: (6, 26)}  # by the number of axes: across sides only, and across edges and corners too


def cubical_persistence(
    images: Float[Tensor, "*batch h w"],
    sublevel: bool = True,
    essential: str = "drop",
    connectivity: int | None = None,
    axes: int = 2,
) -> list[Diagram]:
    """Persistence diagrams of images or volumes, over the field with two elements, by gudhi's cubical complexes.

    A birth or death is the value of one *critical pixel* (voxel), through which the gradient flows.

    Parameters
    ----------
    images
        Grey values, finite, float32 or float64, at least one pixel. With ``axes=3`` volumes ``(*batch, d, h, w)``.
    sublevel
        True: dark pixels enter first. False: bright pixels enter first; births and deaths are then those of the negated
        image, so that births still come before deaths.
    essential
        ``"drop"`` leaves out the one component that never dies; ``"cap"`` lets it end at the last pixel's value, without a
        gradient.
    connectivity
        Of the pixels that enter first; the others have the other one. 8 (of volumes: 26), also for None: every pixel is a
        square that enters at its value and brings its edges and corners with it, so that pixels which touch at a corner
        are connected (the T-construction: Wagner, Chen & Vuçini, "Efficient computation of persistent homology for cubical
        data", 2012). 4 (of volumes: 6): every pixel is a vertex; an edge enters with the later of two neighbours, a square
        with the last of four (the V-construction).
    axes
        How many of the last axes an item has: 2 for images, 3 for volumes. ``(4, 4, 4)`` is four images, or one volume.

    Returns
    -------
    list of Diagram
        H0 and H1, of volumes also H2 (cavities); bars in the order of birth. Bars of length zero are left out.

    Raises
    ------
    TypeError, ValueError
        ``images`` are not such tensors, or an option has an unknown value.
    """
    check_option("axes", axes, tuple(CONNECTIVITIES))
    check_floating("images", images)
    size = images.shape[-axes:]
    if images.ndim < axes or not math.prod(size):
        wanted = "(*batch, h, w) with at least one pixel" if axes == 2 else "(*batch, d, h, w) with at least one voxel"
        raise ValueError(f"images: wanted the shape {wanted}, got {tuple(images.shape)}")
    check_finite("images", images)
    check_option("essential", essential, ("drop", "cap"))
    if connectivity is not None:
        check_option("connectivity", connectivity, CONNECTIVITIES[axes])
    values = (images if sublevel else -images).flatten(-axes)
    items = values.detach().reshape(math.prod(values.shape[:-1]), *size).cpu().numpy()
    pixels_are = "vertices" if connectivity == CONNECTIVITIES[axes][0] else "top_dimensional_cells"
    return gather(values, _pair(items, pixels_are), essential)


def betti_numbers(
    masks: Float[Tensor, "n 1 h w"], threshold: float = 0.5, connectivity: int = 8, min_area: int = 0
) -> Int[Tensor, "n 2"]:
    """Number of components β₀ and of holes β₁ of each mask. A hole is a dark region that does not reach the edge.

    Parameters
    ----------
    masks
        Masks, or grey values.
    threshold
        Pixels of at least this value are bright.
    connectivity
        8: bright pixels that touch at a corner are connected and dark ones are not. 4: the other way round. Of the bars of
        :func:`cubical_persistence` with the same connectivity, bright pixels first, so many are alive at the threshold.
    min_area
        Bright regions of fewer pixels are removed, and then holes of fewer pixels filled. 0 removes and fills nothing.

    Returns
    -------
    Tensor
        int64, on the device of the masks.

    Raises
    ------
    TypeError, ValueError
        ``masks`` is not such a tensor or holds NaN, or an option has no meaning.
    """
    if not isinstance(masks, Tensor):
        raise TypeError(f"masks: wanted a torch tensor, got {type(masks).__name__}")
    if masks.ndim != 4 or masks.shape[1] != 1 or not masks.numel():
        raise ValueError(f"masks: wanted the shape (n, 1, h, w) with at least one pixel, got {tuple(masks.shape)}")
    if masks.isnan().any():
        raise ValueError(f"masks: wanted numbers, got {int(masks.isnan().sum())} NaN")
    check_option("connectivity", connectivity, (4, 8))
    if min_area < 0:
        raise ValueError(f"min_area: wanted a number of pixels, 0 or more, got {min_area}")
    bright = (masks.detach().squeeze(1) >= threshold).cpu().numpy()
    bright = np.pad(bright, ((0, 0), (1, 1), (1, 1)))  # so that there is one outside, and its corner belongs to it
    bright, components = _regions(bright, connectivity, min_area)
    _, holes = _regions(~bright, 12 - connectivity, min_area)
    return torch.from_numpy(np.stack([components, holes], axis=1)).to(masks.device)


def _pair(items: np.ndarray, pixels_are: str) -> list[Pairing]:
    """Critical pixels of each item, flat in row order, one pairing a homology dimension."""
    pairs = [_pair_one(item, pixels_are) for item in items]
    return [padded([bars[dimension] for bars in pairs]) for dimension in range(items.ndim - 1)]


def _pair_one(item: np.ndarray, pixels_are: str) -> list[np.ndarray]:
    from gudhi import CubicalComplex  # here, so that this package imports without it

    # gudhi's first axis runs fastest: of the transposed item it numbers the pixels as rows of the item do
    complex_ = CubicalComplex(dimensions=item.shape[::-1], **{pixels_are: item.ravel()})
    complex_.compute_persistence(homology_coeff_field=2)
    if pixels_are == "vertices":
        finite, endless = complex_.vertices_of_persistence_pairs()
    else:
        finite, endless = complex_.cofaces_of_persistence_pairs()
    values = item.ravel()
    bars = []
    for dimension in range(item.ndim):
        closed = (
            np.asarray(finite[dimension], dtype=int).reshape(-1, 2) if dimension < len(finite) else np.empty((0, 2), int)
        )
        open_ = np.asarray(endless[dimension], dtype=int).ravel() if dimension < len(endless) else np.empty(0, int)
        closed = closed[values[closed[:, 1]] > values[closed[:, 0]]]
        cells = np.concatenate([closed, np.stack([open_, np.full(len(open_), NEVER)], axis=1)])
        bars.append(cells[np.argsort(values[cells[:, 0]], kind="stable")])
    return bars


def _regions(
    pixels: Bool[np.ndarray, "n h w"], connectivity: int, min_area: int
) -> tuple[Bool[np.ndarray, "n h w"], Int[np.ndarray, " n"]]:
    """Connected regions of true pixels, but not the one in the corner: their pixels, and their number in each mask."""
    from scipy import ndimage  # here, so that this package imports without it

    neighbours = np.zeros((3, 3, 3), bool)
    neighbours[1] = ndimage.generate_binary_structure(2, 1 if connectivity == 4 else 2)  # no mask touches the next
    labels, count = ndimage.label(pixels, neighbours)
    counted = np.bincount(labels.ravel(), minlength=count + 1) >= min_area
    counted[0] = False  # the false pixels
    counted[labels[:, 0, 0]] = False
    mask_of = np.empty(count + 1, int)
    mask_of[labels] = np.arange(len(pixels))[:, None, None]
    return counted[labels], np.bincount(mask_of[counted], minlength=len(pixels))
