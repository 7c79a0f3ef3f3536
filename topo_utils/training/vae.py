"""Training of the VAE family."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from topo_utils.config import VAEConfig
from topo_utils.datasets import Dataset
from topo_utils.models.vae import VAE
from topo_utils.seed import generator
from topo_utils.training.loader import Batch
from topo_utils.training.module import Comparisons, Training


class TrainingVAE(Training):
    """Loss = -E_q[log p(x|z)] + β D_KL + Σ γ L_topo, the mean over the batch (the proposal, section 2.5 A)."""

    family = "vae"

    @classmethod
    def build(cls, config: VAEConfig, domain: str, shape: tuple[int, ...], **options: Any) -> VAE:
        return VAE(shape, config.latent_dimension, domain, config.width, config.prior, config.prior_components)

    @classmethod
    def scaled(cls, model: VAE, train: Dataset) -> VAE:
        model.prior.begin(train.items)
        return model

    def configure_optimizers(self) -> torch.optim.Optimizer:
        prior = list(self.model.prior.parameters())
        if not prior:
            return super().configure_optimizers()
        rest = [weight for name, weight in self.model.named_parameters() if not name.startswith("prior.")]
        groups = [{"params": rest}, {"params": prior, "lr": self.config.prior_learning_rate}]
        return torch.optim.Adam(groups, lr=self.config.learning_rate)

    def objective(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor], Comparisons]:
        posterior, z, parameters = self.model(batch.items)
        terms = {
            "reconstruction": self.model.likelihood.nats(parameters, batch.items).mean(),
            "kl": self.model.prior.kl(posterior, z).mean(),
        }
        clouds = {
            "latent": lambda: self.clouds(posterior.mean),
            "reconstruction": lambda: self.feature_clouds(self.model.likelihood.mean(parameters)),
            "generated": lambda: self.feature_clouds(self.model.decode(self.model.prior.sample(len(z)))),
            "sample": lambda: self.item_clouds(self.model.likelihood.mean(parameters)),
        }
        loss = terms["reconstruction"] + self.config.beta * terms["kl"]
        return loss, terms, {name: partial(self.compare, name, batch, make) for name, make in clouds.items()}

    def compare(self, name: str, batch: Batch, make: Callable[[], Tensor]) -> Tensor:
        return self.regularizers[name](batch.references[name], make())

    def validation_step(self, batch: Batch, index: int) -> None:
        x = batch.items
        posterior = self.model.encode(x)
        parameters = self.model.parameters_of(posterior.mean)
        z = posterior.sample(generator(self.config.seed, "validation", index))
        terms = {
            "reconstruction": self.model.likelihood.nats(parameters, x),
            "kl": self.model.prior.kl(posterior, z),
        }
        self.log_dict({f"validation/{name}": value.mean() for name, value in terms.items()}, **self.over(x))
