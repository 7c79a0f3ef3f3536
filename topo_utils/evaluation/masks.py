"""Whether masks have the topology that was asked for: scores drawn from their Betti numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from sklearn.metrics import precision_recall_fscore_support
from torch import Tensor

from topo_utils.topology import betti_numbers
from topo_utils.topology.checks import check_count

if TYPE_CHECKING:
    from jaxtyping import Float, Int


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
        As for :func:`~topo_utils.topology.betti_numbers`.
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
    check_count("dimension", dimension, 0, below=2)
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
