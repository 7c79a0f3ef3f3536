"""The regulariser of each comparison that has a weight: made as the configuration says, and calibrated on the data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from topo_utils.config import RunConfig
from topo_utils.datasets import Dataset
from topo_utils.models.features import features_of
from topo_utils.seed import generator
from topo_utils.topology import REGULARIZERS, TopologicalLoss

CLOUDS = 16  # of training features, on which a grid is calibrated


def calibrated(config: RunConfig, train: Dataset, features: nn.Module) -> dict[str, nn.Module]:
    """For each comparison with a weight its loss, whose grid knows the training data."""
    names = [name for name in config.gammas if config.comparisons[name].regularized]
    return {name: regularizer(config, name, train).fit(_clouds(config, name, train, features)) for name in names}


def regularizer(config: RunConfig, comparison: str, train: Dataset) -> nn.Module:
    """The loss of a comparison, not yet calibrated: L_topo, or the control that the configuration names in its place."""
    compared = config.comparisons[comparison]
    options = {"filtration": config.filtration, "k": config.k, "scale_free": not compared.one_space}
    if compared.items:
        if train.domain.filtration is None:
            raise ValueError(f"gamma_{comparison}: wanted 0 for '{train.name}', whose items are single points")
        options = {"filtration": train.domain.filtration}
    weights = (config.h0_weight, config.h1_weight)
    loss = TopologicalLoss(config.representation, levels=config.levels, weights=weights, **options)
    return REGULARIZERS[config.regularizer].make(loss)


def _clouds(config: RunConfig, comparison: str, train: Dataset, features: nn.Module) -> Tensor:
    """Random clouds of training features, or the clouds of single items."""
    stream = generator(config.seed, "grid")
    if config.comparisons[comparison].items:
        return train.domain.cloud(train.items[torch.randperm(len(train), generator=stream)[: config.cloud_size]])
    chosen = torch.stack([torch.randperm(len(train), generator=stream)[: config.cloud_size] for _ in range(CLOUDS)])
    return features_of(features, train.items[chosen.flatten()]).view(*chosen.shape, -1)
