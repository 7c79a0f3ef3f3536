"""How much a metric of one run would move with other items: 95 % intervals by a bootstrap over the items."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from topo_utils.seed import generator
from topo_utils.topology.checks import check_count, check_finite

if TYPE_CHECKING:
    from jaxtyping import Float

RESAMPLES = 1000
ENDS = {"low": 0.025, "high": 0.975}


def resampled(count: int, seed: int = 0, name: str = "") -> Float[Tensor, "resamples count"]:
    """Weights of ``count`` items in 1,000 resamples, drawn with replacement: shares of the draws, so that rows sum to 1.

    Items of one name have the same weights in all metrics of a run, and in all runs of a seed: differences are paired.

    Raises
    ------
    TypeError, ValueError
        ``count`` is not a whole number, at least 1.
    """
    check_count("count", count)
    drawn = torch.randint(count, (RESAMPLES, count), generator=generator(seed, "bootstrap", name))
    return torch.zeros(RESAMPLES, count).scatter_add_(1, drawn, torch.full(drawn.shape, 1 / count))


def interval(name: str, values: Float[Tensor, " resamples"]) -> dict[str, float]:
    """``<name>_low`` and ``<name>_high``: the percentiles 2.5 and 97.5 of a metric over the resamples.

    The percentile interval of Efron & Tibshirani, *An introduction to the bootstrap*, 1993, section 13.3. It is of the
    items alone: the model, F and the judge are given.

    Raises
    ------
    ValueError
        A value is not finite.
    """
    check_finite("values", values)
    return {f"{name}_{end}": values.quantile(share).item() for end, share in ENDS.items()}


def of_mean(name: str, values: Float[Tensor, " n"], seed: int = 0) -> dict[str, float]:
    """The interval of a mean over items."""
    return interval(name, resampled(len(values), seed, "items") @ values.float())


def of_auroc(name: str, inside: Float[Tensor, " n"], outside: Float[Tensor, " m"], seed: int = 0) -> dict[str, float]:
    """The interval of the share of pairs in which the outlier scores higher (ties count half), both sides resampled."""
    w_inside, w_outside = resampled(len(inside), seed, "inside"), resampled(len(outside), seed, "outside")
    ranked, order = inside.sort()
    below = torch.nn.functional.pad(w_inside[:, order].cumsum(1), (1, 0))  # weight of the first so many
    places = [torch.searchsorted(ranked, outside, right=right) for right in (False, True)]
    return interval(name, (w_outside * (below[:, places[0]] + below[:, places[1]]) / 2).sum(1))
