"""Whether masks have the topology that was asked for: Betti numbers counted on pixels, and the scores drawn from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage
from sklearn.metrics import precision_recall_fscore_support
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


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
        8: bright pixels that touch at a corner are connected and dark ones are not, as in
        :func:`~topo_utils.topology.cubical_persistence`. 4: the other way round.
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
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity: wanted 4 or 8, got {connectivity!r}")
    if min_area < 0:
        raise ValueError(f"min_area: wanted a number of pixels, 0 or more, got {min_area}")
    bright = (masks.detach().squeeze(1) >= threshold).cpu().numpy()
    bright = np.pad(bright, ((0, 0), (1, 1), (1, 1)))  # so that there is one outside, and its corner belongs to it
    bright, components = _regions(bright, connectivity, min_area)
    _, holes = _regions(~bright, 12 - connectivity, min_area)
    return torch.from_numpy(np.stack([components, holes], axis=1)).to(masks.device)


def betti_scores(
    masks: Float[Tensor, "n 1 h w"],
    wanted: Int[Tensor, " n"],
    dimension: int,
    threshold: float = 0.5,
    connectivity: int = 8,
    min_area: int = 0,
) -> dict[str, float]:
    """How well masks have the Betti numbers that were asked for, as TopoDiffusionNet's released evaluation scores it.

    The wanted number c is taken as the true class of a mask and its counted Betti number as the predicted one, as in
    ``analysis-scripts/eval-metrics.py`` of Saumya-Gupta-26/TopoDiffusionNet (Gupta, Samaras & Chen, ICLR 2025). That script
    counts components with 4- and with 8-connectivity, and holes with 4-connectivity.

    Parameters
    ----------
    masks, threshold, connectivity, min_area
        As for :func:`betti_numbers`.
    wanted
        The c of each mask, int64, not negative.
    dimension
        0: c counts components; 1: holes.

    Returns
    -------
    dict
        - ``accuracy``: share of the masks whose Betti number is exactly c (β accuracy);
        - ``precision``: of the masks that have c, the share of which c was wanted; 0 where no mask has c;
        - ``recall``: of the masks of which c was wanted, the share that has c;
        - ``f1``: the harmonic mean of the two, 0 where both are 0;
        - ``mean_absolute_error``: of the Betti number from c.

        Precision, recall and F1 are taken for each c that occurs in ``wanted``, and their plain mean is given ("macro").

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.
    """
    if dimension not in (0, 1):
        raise ValueError(f"dimension: wanted 0 or 1, got {dimension!r}")
    if not isinstance(wanted, Tensor) or wanted.dtype != torch.int64:
        raise TypeError(f"wanted: wanted an int64 tensor, got {getattr(wanted, 'dtype', type(wanted).__name__)}")
    counted = betti_numbers(masks, threshold, connectivity, min_area)[:, dimension].cpu()
    if wanted.shape != counted.shape:
        raise ValueError(
            f"wanted: wanted one number for each of the {len(masks)} masks, got the shape {tuple(wanted.shape)}"
        )
    wanted = wanted.cpu()
    if (wanted < 0).any():
        raise ValueError(f"wanted: wanted no negative number, got {wanted.min().item()}")
    precision, recall, f1, _ = precision_recall_fscore_support(
        wanted.numpy(), counted.numpy(), labels=wanted.unique().numpy(), average="macro", zero_division=0
    )
    return {
        "accuracy": (counted == wanted).double().mean().item(),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "mean_absolute_error": (counted - wanted).abs().double().mean().item(),
    }


def _regions(
    pixels: Bool[np.ndarray, "n h w"], connectivity: int, min_area: int
) -> tuple[Bool[np.ndarray, "n h w"], Int[np.ndarray, " n"]]:
    """Connected regions of true pixels, but not the one in the corner: their pixels, and their number in each mask."""
    neighbours = np.zeros((3, 3, 3), bool)
    neighbours[1] = ndimage.generate_binary_structure(2, 1 if connectivity == 4 else 2)  # no mask touches the next
    labels, count = ndimage.label(pixels, neighbours)
    counted = np.bincount(labels.ravel(), minlength=count + 1) >= min_area
    counted[0] = False  # the false pixels
    counted[labels[:, 0, 0]] = False
    mask_of = np.empty(count + 1, int)
    mask_of[labels] = np.arange(len(pixels))[:, None, None]
    return counted[labels], np.bincount(mask_of[counted], minlength=len(pixels))
