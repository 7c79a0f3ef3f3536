"""Families of models: which training belongs to which configuration, and all that a network is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from topo_utils.config import DiffusionConfig, RunConfig, VAEConfig
from topo_utils.datasets import Dataset
from topo_utils.training.diffusion import TrainingDiffusion
from topo_utils.training.module import Training
from topo_utils.training.vae import TrainingVAE

#: A family is one configuration, one file with its training, and one line here.
FAMILIES: dict[type[RunConfig], type[Training]] = {
    VAEConfig: TrainingVAE,
    DiffusionConfig: TrainingDiffusion,
}


@dataclass(frozen=True)
class Specification:
    """All that a network is made from, but for its weights; written into the record of a run beside them.

    Attributes
    ----------
    config
        The run's.
    domain
        Name of the domain of the items.
    shape
        Shape of an item.
    options
        What the data decide besides, see :meth:`Training.options`.
    """

    config: RunConfig
    domain: str
    shape: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, config: RunConfig, train: Dataset) -> Specification:
        """Of a network that is to be trained on these items."""
        return cls(config, train.domain.name, train.shape, FAMILIES[type(config)].options(config, train))

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Specification:
        """From what :meth:`written` gave."""
        families = {training.family: config for config, training in FAMILIES.items()}
        if content["family"] not in families:
            raise ValueError(f"family: wanted one of {', '.join(families)}, got {content['family']!r}")
        config = families[content["family"]](**content["config"])
        return cls(config, content["domain"], tuple(content["shape"]), content["options"])

    def written(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "family": self.training.family,
            "config": self.config.model_dump(),
            "domain": self.domain,
            "shape": list(self.shape),
            "options": dict(self.options),
        }

    @property
    def training(self) -> type[Training]:
        """That of its family."""
        return FAMILIES[type(self.config)]

    def build(self) -> nn.Module:
        """The network, its weights drawn from torch's global generator."""
        return self.training.build(self.config, self.domain, self.shape, **self.options)
