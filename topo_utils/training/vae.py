"""Training of the VAE family."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

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
    def started(cls, config: VAEConfig, model: VAE, train: Dataset, features: nn.Module) -> VAE:
        model.prior.begin(train.items)
        if config.encoder_from == "features":
            _take_over(model.encoder, features.encoder)
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


@torch.no_grad()
def _take_over(encoder: nn.Module, of_features: nn.Module) -> None:
    """Copy F's layers, but the last one, whose outputs mean something else, into an encoder of the same architecture."""
    weights = of_features.state_dict() if isinstance(of_features, nn.Module) else {}
    into = encoder.state_dict()
    hidden = list(into)[:-2]  # without the weight and the bias of the last layer
    if any(name not in weights or weights[name].shape != into[name].shape for name in hidden):
        raise ValueError(
            "encoder_from: wanted 'random', for F's encoder has other layers than this one; F has to be trained at the "
            "model's width, on a domain that has one encoder for both (images, masks, proteins)"
        )
    for name in hidden:
        into[name].copy_(weights[name])
