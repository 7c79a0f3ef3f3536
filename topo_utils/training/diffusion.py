"""Training of the diffusion family: TopoDiffusionLite, and TopoDiffusionNet as a baseline."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from topo_utils.config import DiffusionConfig
from topo_utils.datasets import Dataset
from topo_utils.models import networks
from topo_utils.models.diffusion import Diffusion, ema
from topo_utils.seed import generator
from topo_utils.topology import BettiLoss
from topo_utils.training.loader import Batch
from topo_utils.training.module import Comparisons, Training


class TrainingDiffusion(Training):
    """Loss = E‖ε - ε̂‖² + Σ γ w L_topo(x̃, x), the mean over the batch (the proposal, section 2.5 B).

    The estimates x̃ of the items with the lowest noise levels make the cloud, at most ``cloud_size`` of them and only those
    of σ ≤ ``topological_sigma``: above, x̃ is a blurred mean whose shape is not to be that of the data. The term has the
    weight w = mean of σ_data² / (σ² + σ_data²), the share of the item in x_t, and is left out with fewer than four items,
    or no more than k. TopoDiffusionNet's loss of the same estimates has no such weight (Gupta et al., ICLR 2025; their
    released code has one that depends on the noise as an option); theirs looks at all items, at all noise levels.
    """

    family = "diffusion"

    def __init__(self, model: Diffusion, config: DiffusionConfig, *others: Any):
        super().__init__(model, config, *others)
        self.average = ema(model, config.decay)
        self.betti_loss = BettiLoss(config.betti_form, config.betti_dimension)

    @classmethod
    def build(cls, config: DiffusionConfig, domain: str, shape: tuple[int, ...], classes: int | None = None) -> Diffusion:
        network = networks.denoiser(domain, shape, config.width, classes)
        return Diffusion(network, shape, config.sigma_min, config.sigma_max, config.schedule)

    @classmethod
    def options(cls, config: DiffusionConfig, train: Dataset) -> dict[str, Any]:
        """The number of classes, where the network is told a Betti number."""
        if config.condition == "none":
            return {}
        return {"classes": int(train.betti(config.betti_dimension).max()) + 1}

    @classmethod
    def known(cls, config: DiffusionConfig, data: Dataset) -> dict[str, Tensor]:
        """Betti numbers, where the network is told them or they are compared."""
        wanted = config.condition != "none" or config.gamma_betti
        return {"betti": data.betti(config.betti_dimension)} if wanted else {}

    @classmethod
    def started(cls, config: DiffusionConfig, model: Diffusion, train: Dataset, features: nn.Module) -> Diffusion:
        return model.fit_scale(train.items)

    @property
    def trained(self) -> nn.Module:
        """The moving average of the weights."""
        return self.average.module

    def objective(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor], Comparisons]:
        x, sigma = batch.items, self.model.sample_sigma(len(batch.items))
        found = self.model.loss_terms(x, sigma, torch.randn_like(x), self.condition(batch))
        lowest = sigma.argsort()[: self.config.cloud_size]
        chosen = lowest[sigma[lowest] <= self.config.topological_sigma * self.model.sigma_data]
        weight = (1 / (1 + (sigma[chosen] / self.model.sigma_data).square())).mean()
        fewer, estimates = batch.take(chosen), found.denoised[chosen]

        def compare(name: str, reference: Tensor, cloud: Tensor) -> Tensor:
            return self.regularizers[name](reference, cloud) * weight

        comparisons = {
            "denoised": lambda: compare("denoised", fewer.features, self.initial_autoencoder.features(estimates)),
            "sample": lambda: compare("sample", self.item_clouds(fewer.items), self.item_clouds(estimates)),
            "betti": lambda: self.betti_loss(estimates, fewer.known["betti"]),
        }
        if len(chosen) < max(4, 1 + (self.config.k or 0)):
            comparisons = dict.fromkeys(comparisons, lambda: 0 * found.error.sum())
        error = found.error.mean()
        return error, {"noise": error}, comparisons

    def condition(self, batch: Batch) -> Tensor | None:
        return None if self.config.condition == "none" else batch.known["betti"]

    def references(self, batch: Batch) -> dict[str, Any]:
        """Nothing can be made ahead: the noise decides which items are compared."""
        return {}

    def on_train_batch_end(self, outputs: Any, batch: Batch, index: int) -> None:
        self.average.update_parameters(self.model)

    def validation_step(self, batch: Batch, index: int) -> None:
        stream = generator(self.config.seed, "validation", index)
        x = batch.items
        sigma, noise = self.model.sample_sigma(len(x), stream), torch.randn(x.shape, generator=stream).to(x)
        error = self.average.module.loss_terms(x, sigma, noise, self.condition(batch)).error.mean()
        self.log("validation/noise", error, **self.over(x))
