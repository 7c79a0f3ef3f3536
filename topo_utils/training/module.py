"""What the training of every family has in common: one step, with its regulariser."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import lightning
import torch
from torch import Tensor, nn

from topo_utils.config import RunConfig
from topo_utils.datasets import Dataset, Domain
from topo_utils.seed import seed_everything
from topo_utils.training.loader import Batch

#: For each comparison a function that makes it.
Comparisons = dict[str, Callable[[], Tensor]]


class DivergenceError(RuntimeError):
    """The loss is not finite. The message says where, which term, and what usually helps."""


class Training(lightning.LightningModule, ABC):
    """Training of one family of models; a subclass says what one step minimises, and how its network is made.

    Each step has its own stream of random numbers, so that a run that was interrupted and resumed equals one that was not.
    For γ = 0 no topology is computed and no random number is drawn for it: the run is the plain model's, bit for bit.

    A family with several optimisers overrides :meth:`configure_optimizers` and :meth:`training_step`, in which it calls
    :meth:`penalised` and :meth:`record` as the one here does, and sets ``automatic_optimization`` to False.

    Parameters
    ----------
    model
        The network.
    config
        Weights and sizes.
    domain
        That of the items.
    features
        The initial autoencoder F, frozen.
    regularizers
        For each comparison whose weight γ is not zero its loss, calibrated.

    Attributes
    ----------
    family
        Its name.
    step
        Number of the present step, over all epochs.
    """

    family: ClassVar[str]
    run: str = ""  # names the parameters, the data and F, so that a checkpoint is never resumed with others
    step: int = 0
    factors: Mapping[str, float] = {}
    """By comparison, what γ is multiplied by; see :mod:`topo_utils.training.matching`."""

    def __init__(
        self,
        model: nn.Module,
        config: RunConfig,
        domain: Domain,
        features: nn.Module,
        regularizers: Mapping[str, nn.Module],
    ):
        super().__init__()
        self.model, self.config, self.domain, self.initial_autoencoder = model, config, domain, features
        self.regularizers = nn.ModuleDict(regularizers)

    # --- what a family says of itself ---

    @classmethod
    @abstractmethod
    def build(cls, config: RunConfig, domain: str, shape: tuple[int, ...], **options: Any) -> nn.Module:
        """The network that a configuration describes, for such items; ``options`` are those of :meth:`options`."""

    @classmethod
    def options(cls, config: RunConfig, train: Dataset) -> dict[str, Any]:
        """What the data decide of the network besides the shape of an item, as JSON can hold it."""
        return {}

    @classmethod
    def known(cls, config: RunConfig, data: Dataset) -> dict[str, Tensor]:
        """What a step has to know of each item."""
        return {}

    @classmethod
    def started(cls, config: RunConfig, model: nn.Module, train: Dataset, features: nn.Module) -> nn.Module:
        """The network, with what it takes from the training items, and from F, before the first step."""
        return model

    @property
    def trained(self) -> nn.Module:
        """The network that is the result."""
        return self.model

    @abstractmethod
    def objective(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor], Comparisons]:
        """Loss without regulariser, its terms, and for each comparison a function that makes it."""

    # --- one step ---

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.model.parameters(), lr=self.config.learning_rate)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        loss, terms, comparisons = self.objective(batch)
        loss, terms, seconds = self.penalised(loss, terms, comparisons, batch, index)
        self.record({**terms, "loss": loss}, seconds)
        return loss

    def penalised(
        self, loss: Tensor, terms: dict[str, Tensor], comparisons: Comparisons, batch: Batch, index: int
    ) -> tuple[Tensor, dict[str, Tensor], float]:
        """The loss with its regulariser, where this step has one: loss, terms, and the seconds that it took."""
        if batch.references is None:
            return loss, terms, 0.0
        if loss.is_cuda:
            torch.cuda.synchronize()  # lest the time that the model takes be counted as the regulariser's
        start = time.perf_counter()
        compared = self.compared(comparisons, {**terms, "loss": loss})
        penalty = sum(self.config.gammas[name] * self.factors.get(name, 1.0) * value for name, value in compared.items())
        terms = terms | {f"topological_{name}": value for name, value in compared.items()}
        terms |= {f"factor_{name}": loss.new_tensor(factor) for name, factor in self.factors.items()}
        seconds = time.perf_counter() - start
        if index + self.config.every >= self.trainer.num_training_batches:  # the last one of the epoch
            terms |= self.gradient_norms(loss, penalty)
        return loss + self.warmup() * penalty, terms, seconds

    def compared(self, comparisons: Comparisons, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """The comparisons that have a weight. A model that has diverged cannot be compared: then its terms are named."""
        try:
            return {name: compare() for name, compare in comparisons.items() if name in self.config.gammas}
        except ValueError:
            self.finite(terms)
            raise

    def record(self, terms: dict[str, Tensor], seconds: float) -> None:
        """Keep the terms of this step for the history; raises when one is not finite."""
        self.terms = self.finite(terms) | {"seconds_topological": seconds}
        if (self.step + 1) % self.trainer.log_every_n_steps == 0:  # others would be dropped, at a cost
            self.log_dict({f"train/{name}": value for name, value in self.terms.items()}, on_step=True)

    def finite(self, terms: dict[str, Tensor]) -> dict[str, float]:
        """The terms as numbers, fetched from the device at once; raises when one is not finite."""
        values = dict(zip(terms, torch.stack([each.detach().float() for each in terms.values()]).tolist(), strict=True))
        bad = {name: value for name, value in values.items() if not math.isfinite(value)}
        if bad:
            gammas = ", ".join(f"gamma_{name} (now {value})" for name, value in self.config.gammas.items())
            raise DivergenceError(
                f"training diverged in epoch {self.current_epoch}, step {self.step}: "
                + ", ".join(f"{name} = {value}" for name, value in bad.items())
                + f". Try a smaller learning_rate (now {self.config.learning_rate})"
                + (f" or {gammas}" if gammas else "")
            )
        return values

    def warmup(self) -> float:
        """Factor of γ: rises linearly from 0 to 1 over the first ``warmup`` of all steps."""
        steps = self.config.warmup * self.trainer.max_epochs * self.trainer.num_training_batches
        return min(1.0, (self.step + 1) / steps) if steps else 1.0

    def gradient_norms(self, loss: Tensor, penalty: Tensor) -> dict[str, Tensor]:
        """How hard the model's own loss and the regulariser, γ included but not its warm-up, pull at the weights."""
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        norms = {}
        for name, value in (("gradient_loss", loss), ("gradient_topological", penalty)):
            gradients = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
            norms[name] = torch.stack([each.square().sum() for each in gradients if each is not None]).sum().sqrt()
        return norms

    # --- clouds ---

    @torch.no_grad()
    def references(self, batch: Batch) -> dict[str, Any]:
        """The data side of the regularisers. It needs no model, so it can be made ahead."""
        return {
            name: loss.prepare(self.item_clouds(batch.items) if self.of_items(name) else self.clouds(batch.features))
            for name, loss in self.regularizers.items()
        }

    def of_items(self, comparison: str) -> bool:
        """Whether each item is a cloud of its own there."""
        return self.config.comparisons[comparison].items

    def clouds(self, points: Tensor) -> Tensor:
        """A batch ``(n, d)`` as clouds ``(n // size, size, d)``; the batch is in random order, so these are random."""
        size = self.config.cloud_size
        whole = len(points) // size * size
        return points[:whole].reshape(-1, size, points.shape[1])

    def item_clouds(self, x: Tensor) -> Tensor:
        """The first items of a batch, each as the cloud that its own topology is taken from."""
        return self.domain.cloud(x[: self.config.cloud_size])

    def feature_clouds(self, x: Tensor) -> Tensor:
        """Clouds of F(x)."""
        return self.clouds(self.initial_autoencoder.features(x))

    # --- what Lightning calls ---

    def setup(self, stage: str) -> None:
        if self.config.devices > 1:
            # this process is a fork: it has no thread of the pool that its parent may have used
            torch.set_num_threads(1)

    def train(self, mode: bool = True) -> Training:
        super().train(mode)
        self.initial_autoencoder.eval()  # frozen, whatever the mode of the rest
        return self

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, index: int) -> Batch:
        """Lightning's way, but for a batch that is there already, which need not be looked through."""
        return batch if batch.items.device == device else super().transfer_batch_to_device(batch, device, index)

    def on_train_batch_start(self, batch: Batch, index: int) -> None:
        self.step = self.current_epoch * self.trainer.num_training_batches + index
        seed_everything(self.config.seed, "step", self.step, *([self.global_rank] if self.global_rank else []))

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["run"] = self.run

    def over(self, x: Tensor) -> dict[str, Any]:
        """How a mean over validation items goes into that of the epoch, on all devices."""
        return {"batch_size": len(x), "sync_dist": self.config.devices > 1}
