"""Samples of a model, and what makes a good one in each domain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from topo_utils.datasets import Dataset
from topo_utils.evaluation.checks import check_items, check_same_kind
from topo_utils.models.priors import Aggregate
from topo_utils.seed import generator
from topo_utils.topology.checks import check_count

if TYPE_CHECKING:
    from jaxtyping import Float, Int


@torch.no_grad()
def sample(
    model: nn.Module,
    count: int,
    seed: int = 0,
    condition: Int[Tensor, " count"] | None = None,
    device: str = "cpu",
    density: Aggregate | None = None,
) -> Float[Tensor, "count ..."]:
    """New items that ``model.sample`` makes: of a VAE G(z), z ~ p(z); of a diffusion model what it makes of noise.

    Parameters
    ----------
    condition
        Class of each item ``(count,)``, for a model that was made with classes.
    device
        Where they are made. Noise is drawn on the CPU, so that it is the same everywhere; items and model come back to it.
    density
        Gives the codes of a VAE in place of its prior.

    Raises
    ------
    TypeError, ValueError
        A count below 1; a condition that the model does not take, or that is not one class for each item.
    """
    check_count("count", count)
    model.to(device)
    try:
        chosen = {} if density is None else {"density": density}
        return model.sample(count, generator(seed, "samples"), condition=condition, **chosen).cpu()
    finally:
        model.cpu()


def sample_quality(samples: Float[Tensor, "m ..."], data: Dataset, train: Dataset) -> dict[str, float]:
    """Metrics of generated items that only their own domain has, without a network: see the domain's ``quality``.

    Parameters
    ----------
    samples
        Generated items, float32, in the form of the data; probabilities are rounded as the domain says.
    data, train
        Real items to compare with, and those that the model was trained on.

    Raises
    ------
    TypeError, ValueError
        Samples of another shape, none, or with values that are not finite; ``train`` of another kind than ``data``.
    """
    check_items("samples", samples, data.shape)
    check_same_kind(data, train)
    return data.domain.quality(samples.detach().cpu(), data, train)
