"""Training on Lightning: one function, :func:`fit`."""

from __future__ import annotations

import hashlib
import logging
import math
import signal
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset
from tqdm.auto import tqdm

from topo_utils.config import DiffusionConfig, RunConfig
from topo_utils.datasets import REGISTRY, Dataset
from topo_utils.models.diffusion import Diffusion, ema
from topo_utils.models.features import Autoencoder, Identity, features_of
from topo_utils.models.unet import ResidualMLP, UNet
from topo_utils.models.vae import VAE
from topo_utils.seed import generator, seed_everything
from topo_utils.topology import (
    CriticalEdgeMatching,
    DistanceMatching,
    EnergyDistance,
    NullReference,
    TopologicalLoss,
)
from topo_utils.topology.betti import BettiLoss

LOGS, CHECKPOINT = "logs", "checkpoint.ckpt"


class DivergenceError(RuntimeError):
    """The loss is not finite. The message says where, which term, and what usually helps."""


class Batch(NamedTuple):
    """Items, and what belongs to each of them.

    Attributes
    ----------
    items
        ``(batch, ...)``.
    features
        F of the items, ``(batch, d)``; None when nothing is compared.
    betti
        Betti number of each item, ``(batch,)``; None when none is needed.
    references
        What the regularisers made ahead of the features, by comparison; None when this step has no regulariser.
    """

    items: Tensor
    features: Tensor | None = None
    betti: Tensor | None = None
    references: dict[str, Any] | None = None

    def take(self, chosen: Tensor) -> Batch:
        """Some of the items, with what belongs to them."""
        return Batch(*(None if each is None else each[chosen] for each in self[:3]))


class Trained(NamedTuple):
    """A trained model in evaluation mode on the CPU, and its history: a row an epoch."""

    model: nn.Module
    history: pd.DataFrame


class Training(lightning.LightningModule, ABC):
    """What the training of every model has in common; a subclass says what one step minimises.

    Each step has its own stream of random numbers, so that a run that was interrupted and resumed equals one that was not.
    For γ = 0 no topology is computed and no random number is drawn for it: the run is the plain model's, bit for bit.

    Parameters
    ----------
    model
        The network.
    config
        Weights and sizes.
    features
        The initial autoencoder F, frozen.
    regularizers
        For each comparison whose weight γ is not zero its loss, calibrated.
    """

    run: str = ""  # names the parameters, the data and F, so that a checkpoint is never resumed with others

    def __init__(self, model: nn.Module, config: RunConfig, features: nn.Module, regularizers: dict[str, nn.Module]):
        super().__init__()
        self.model, self.config, self.initial_autoencoder = model, config, features
        self.regularizers = nn.ModuleDict(regularizers)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.model.parameters(), lr=self.config.learning_rate)

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
        return batch if batch[0].device == device else super().transfer_batch_to_device(batch, device, index)

    def on_train_batch_start(self, batch: Batch, index: int) -> None:
        seed_everything(self.config.seed, "step", self.global_step, *([self.global_rank] if self.global_rank else []))

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["run"] = self.run

    def training_step(self, batch: Batch, index: int) -> Tensor:
        loss, terms, comparisons = self.objective(batch)
        seconds = 0.0
        if batch.references is not None:
            if loss.is_cuda:
                torch.cuda.synchronize()  # lest the time that the model takes be counted as the regulariser's
            start = time.perf_counter()
            compared = self.compared(comparisons, {**terms, "loss": loss})
            penalty = sum(self.config.gammas[name] * value for name, value in compared.items())
            terms |= {f"topological_{name}": value for name, value in compared.items()}
            seconds = time.perf_counter() - start
            if index == (self.trainer.num_training_batches - 1) // self.config.every * self.config.every:  # the last one
                terms |= self.gradient_norms(loss, penalty)
            loss = loss + self.warmup() * penalty
        self.terms = self.finite({**terms, "loss": loss}) | {"seconds_topological": seconds}
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:  # others would be dropped, at a cost
            self.log_dict({f"train/{name}": value for name, value in self.terms.items()}, on_step=True)
        return loss

    def compared(self, comparisons: dict[str, Callable[[], Tensor]], terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """The comparisons that have a weight. A model that has diverged cannot be compared: then its terms are named."""
        try:
            return {name: compare() for name, compare in comparisons.items() if name in self.config.gammas}
        except ValueError:
            self.finite(terms)
            raise

    @abstractmethod
    def objective(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor], dict[str, Callable[[], Tensor]]]:
        """Loss without regulariser, its terms, and for each comparison a function that makes it."""

    @torch.no_grad()
    def references(self, batch: Batch) -> dict[str, Any]:
        """The data side of the regularisers. It needs no model, so it can be made ahead."""
        clouds = {
            name: self.items(batch.items) if name == "sample" else self.clouds(batch.features) for name in self.regularizers
        }
        return {name: loss.prepare(clouds[name]) for name, loss in self.regularizers.items()}

    def clouds(self, points: Tensor) -> Tensor:
        """A batch ``(n, d)`` as clouds ``(n // size, size, d)``; the batch is in random order, so these are random."""
        size = self.config.cloud_size
        whole = len(points) // size * size
        return points[:whole].reshape(-1, size, points.shape[1])

    def items(self, x: Tensor) -> Tensor:
        """The first items of a batch, each as the cloud that its own topology is taken from."""
        return REGISTRY[self.config.dataset].domain.cloud(x[: self.config.cloud_size])

    def features_of(self, x: Tensor) -> Tensor:
        """Clouds of F(x)."""
        return self.clouds(self.initial_autoencoder.features(x))

    def warmup(self) -> float:
        """Factor of γ: rises linearly from 0 to 1 over the first ``warmup`` of all steps."""
        steps = self.config.warmup * self.trainer.estimated_stepping_batches
        return min(1.0, (self.global_step + 1) / steps) if steps else 1.0

    def over(self, x: Tensor) -> dict[str, Any]:
        """How a mean over validation items goes into that of the epoch, on all devices."""
        return {"batch_size": len(x), "sync_dist": self.config.devices > 1}

    def gradient_norms(self, loss: Tensor, penalty: Tensor) -> dict[str, Tensor]:
        """How hard the model's own loss and the regulariser, γ included, pull at the weights."""
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        norms = {}
        for name, value in (("gradient_loss", loss), ("gradient_topological", penalty)):
            gradients = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
            norms[name] = torch.stack([each.square().sum() for each in gradients if each is not None]).sum().sqrt()
        return norms

    def finite(self, terms: dict[str, Tensor]) -> dict[str, float]:
        """The terms as numbers, fetched from the device at once; raises when one is not finite."""
        values = dict(zip(terms, torch.stack([each.detach().float() for each in terms.values()]).tolist(), strict=True))
        bad = {name: value for name, value in values.items() if not math.isfinite(value)}
        if bad:
            gammas = ", ".join(f"gamma_{name} (now {value})" for name, value in self.config.gammas.items())
            raise DivergenceError(
                f"training diverged in epoch {self.current_epoch}, step {self.global_step}: "
                + ", ".join(f"{name} = {value}" for name, value in bad.items())
                + f". Try a smaller learning_rate (now {self.config.learning_rate})"
                + (f" or {gammas}" if gammas else "")
            )
        return values


class TrainingVAE(Training):
    """Loss = -E_q[log p(x|z)] + β D_KL + Σ γ L_topo, the mean over the batch (the proposal, section 2.5 A)."""

    def objective(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor], dict[str, Callable[[], Tensor]]]:
        posterior, parameters = self.model(batch.items)
        terms = {
            "reconstruction": self.model.likelihood.nats(parameters, batch.items).mean(),
            "kl": posterior.kl().mean(),
        }
        clouds = {
            "latent": lambda: self.clouds(posterior.mean),
            "reconstruction": lambda: self.features_of(self.model.likelihood.mean(parameters)),
            "generated": lambda: self.features_of(self.model.decode(torch.randn_like(posterior.mean))),
            "sample": lambda: self.items(self.model.likelihood.mean(parameters)),
        }
        loss = terms["reconstruction"] + self.config.beta * terms["kl"]
        return loss, terms, {name: partial(self.compare, name, batch, make) for name, make in clouds.items()}

    def compare(self, name: str, batch: Batch, make: Callable[[], Tensor]) -> Tensor:
        return self.regularizers[name](batch.references[name], make())

    def validation_step(self, batch: tuple[Tensor], _: int) -> None:
        (x,) = batch
        posterior = self.model.encode(x)
        parameters = self.model.parameters_of(posterior.mean)
        terms = {"reconstruction": self.model.likelihood.nats(parameters, x), "kl": posterior.kl()}
        self.log_dict({f"validation/{name}": value.mean() for name, value in terms.items()}, **self.over(x))


class TrainingDiffusion(Training):
    """Loss = E‖ε - ε̂‖² + Σ γ w L_topo(x̃, x), the mean over the batch (the proposal, section 2.5 B).

    The estimates x̃ of the items with the lowest noise levels make the cloud, at most ``cloud_size`` of them and only those
    of σ ≤ ``topological_sigma``: above, x̃ is a blurred mean whose shape is not to be that of the data. The term has the
    weight w = mean of σ_data² / (σ² + σ_data²), the share of the item in x_t, and is left out with fewer than four items,
    or no more than k. TopoDiffusionNet's loss of the same estimates has no such weight (Gupta et al., ICLR 2025; their
    released code has one that depends on the noise as an option); theirs looks at all items, at all noise levels.
    """

    def __init__(self, model: Diffusion, config: DiffusionConfig, features: nn.Module, regularizers: dict[str, nn.Module]):
        super().__init__(model, config, features, regularizers)
        self.average = ema(model, config.decay)
        self.betti_loss = BettiLoss(config.betti_form, config.betti_dimension)

    def objective(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor], dict[str, Callable[[], Tensor]]]:
        x, sigma = batch.items, self.model.sample_sigma(len(batch.items))
        found = self.model.loss_terms(x, sigma, torch.randn_like(x), self.condition(batch))
        lowest = sigma.argsort()[: self.config.cloud_size]
        chosen = lowest[sigma[lowest] <= self.config.topological_sigma * self.model.sigma_data]
        weight = 1 / (1 + (sigma[chosen] / self.model.sigma_data).square())
        fewer, estimates = batch.take(chosen), found.denoised[chosen]

        def cloud(points: Tensor) -> Tensor:
            return self.initial_autoencoder.features(points)

        comparisons = {
            "denoised": lambda: self.regularizers["denoised"](fewer.features, cloud(estimates)) * weight.mean(),
            "sample": lambda: self.regularizers["sample"](self.items(fewer.items), self.items(estimates)) * weight.mean(),
            "betti": lambda: self.betti_loss(estimates, fewer.betti),
        }
        if len(chosen) < max(4, 1 + (self.config.k or 0)):
            comparisons = dict.fromkeys(comparisons, lambda: 0 * found.error.sum())
        error = found.error.mean()
        return error, {"noise": error}, comparisons

    def condition(self, batch: Batch) -> Tensor | None:
        return None if self.config.condition == "none" else batch.betti

    def references(self, batch: Batch) -> dict[str, Any]:
        """Nothing can be made ahead: the noise decides which items are compared."""
        return {}

    def on_train_batch_end(self, outputs: Any, batch: Batch, index: int) -> None:
        self.average.update_parameters(self.model)

    def validation_step(self, batch: tuple[Tensor, ...], index: int) -> None:
        stream = generator(self.config.seed, "validation", index)
        x = batch[0]
        sigma, noise = self.model.sample_sigma(len(x), stream), torch.randn(x.shape, generator=stream).to(x)
        condition = self.condition(Batch(x, None, *batch[1:]))
        error = self.average.module.loss_terms(x, sigma, noise, condition).error.mean()
        self.log("validation/noise", error, **self.over(x))


class History(Callback):
    """Collects a row an epoch, and keeps it in the checkpoint so that a resumed run has its whole history."""

    def __init__(self):
        self.rows: list[dict] = []

    def state_dict(self) -> dict:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict) -> None:
        self.rows = state["rows"]

    def on_train_epoch_start(self, trainer, module) -> None:
        self.start, self.values = time.perf_counter(), {}

    def on_train_batch_end(self, trainer, module, outputs, batch, index) -> None:
        for name, value in module.terms.items():
            self.values.setdefault(name, []).append(value)

    def on_train_epoch_end(self, trainer, module) -> None:
        means = {name: sum(values) / len(values) for name, values in self.values.items()}
        validation = {
            name.replace("validation/", "validation_"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("validation/")
        }
        times = {
            "seconds": time.perf_counter() - self.start,
            "seconds_topological": sum(self.values["seconds_topological"]),
        }
        self.rows.append({"epoch": trainer.current_epoch, **means, **validation, **times})


class Bar(Callback):
    """One bar for the whole training, drawn twice a second at most.

    A notebook's kernel drops messages that its reader is too slow for, the one that says "cell finished" among them: a bar
    drawn at each step (Lightning's own) sends thousands.
    """

    def __init__(self, name: str):
        self.name, self.bar = name, tqdm(disable=True)  # training may fail before its first step

    def on_train_start(self, trainer, module) -> None:
        steps, epoch = trainer.num_training_batches, trainer.current_epoch
        self.bar = tqdm(
            desc=self.name,
            total=trainer.max_epochs * steps,
            initial=epoch * steps,
            unit="step",
            mininterval=0.5,
            disable=not trainer.is_global_zero,
        )

    def on_train_batch_end(self, trainer, module, outputs, batch, index) -> None:
        self.bar.update()

    def on_train_end(self, trainer, module) -> None:
        self.bar.close()

    def on_exception(self, trainer, module, exception) -> None:
        self.bar.close()


class Lines(Callback):
    """A plain line now and then, for logs and executed notebooks where a moving bar would only leave clutter."""

    def __init__(self, name: str, history: History, lines: int = 5):
        self.name, self.history, self.lines = name, history, lines

    def on_train_epoch_end(self, trainer, module) -> None:
        epoch, row = trainer.current_epoch + 1, self.history.rows[-1]
        if epoch == trainer.max_epochs or epoch % math.ceil(trainer.max_epochs / self.lines) == 0:
            terms = [
                name for name in row if name.split("_")[0] not in ("epoch", "loss", "seconds", "gradient", "validation")
            ]
            values = "  ".join(f"{name.replace('_', ' ')} {row[name]:.4g}" for name in terms)
            print(f"{self.name:>8}  epoch {epoch:3d}/{trainer.max_epochs}  {values}", flush=True)


class Batches(Sampler):
    """Batches of indices in an order that depends on the seed and the epoch alone, not on what was drawn before.

    Where several devices train, each takes every so many-th batch.
    """

    def __init__(self, size: int, batch_size: int, seed: int, devices: int = 1):
        self.size, self.batch_size, self.seed, self.devices, self.epoch = size, batch_size, seed, devices, 0

    def __len__(self) -> int:
        return self.size // self.batch_size // self.devices

    def set_epoch(self, epoch: int) -> None:  # called by Lightning
        self.epoch = epoch

    def __iter__(self):
        order = torch.randperm(self.size, generator=generator(self.seed, "order", self.epoch))
        mine = torch.distributed.get_rank() if self.devices > 1 else 0
        batches = order[: len(self) * self.devices * self.batch_size].split(self.batch_size)
        yield from batches[mine :: self.devices]  # the odd rest waits for another epoch


class Loader:
    """Batches of items that lie in memory, each with its references.

    These are made in a background thread, a few batches ahead of the training; the results are the same as without.

    Parameters
    ----------
    data
        All items and what belongs to each of them.
    sampler
        Gives the indices of each batch.
    prepare
        Makes the references of a batch; None: nothing is compared.
    every
        References for each ``every``-th batch only, the first one included.
    ahead
        Number of batches that are prepared in advance.
    """

    def __init__(
        self,
        data: Batch,
        sampler: Batches,
        prepare: Callable[[Batch], dict[str, Any]] | None = None,
        every: int = 1,
        ahead: int = 2,
    ):
        self.data, self.sampler, self.prepare, self.every, self.ahead = data, sampler, prepare, every, ahead

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        if self.prepare is None:
            yield from map(self.data.take, self.sampler)
            return
        with ThreadPoolExecutor(1) as pool:
            started = (self._start(pool, index, indices) for index, indices in enumerate(self.sampler))
            waiting = deque(islice(started, self.ahead))
            while waiting:
                batch, prepared = waiting.popleft()
                waiting.extend(islice(started, 1))
                yield batch._replace(references=prepared and prepared.result())

    def _start(self, pool: ThreadPoolExecutor, index: int, indices: Tensor) -> tuple[Batch, Future | None]:
        batch = self.data.take(indices)
        return batch, pool.submit(self.prepare, batch) if index % self.every == 0 else None


def fit(
    config: RunConfig,
    train: Dataset,
    validation: Dataset,
    features: Autoencoder | Identity,
    folder: Path | None = None,
    progress: str = "bar",
) -> Trained:
    """Train the model that ``config`` describes.

    Parameters
    ----------
    config
        The run.
    train, validation
        Items to train on, and to follow the training on.
    features
        The initial autoencoder F.
    folder
        Where logs and the checkpoint go; when a checkpoint of the same run lies there, training goes on from it, with the
        same result as a run that was never interrupted. None: a scratch folder, removed at the end.
    progress
        ``"bar"``, ``"lines"`` or ``"none"``.

    Raises
    ------
    DivergenceError
        The loss became NaN or infinite.
    ValueError
        Fewer training items than a batch has, or ``accelerator="gpu"`` where there is none.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as scratch:
            return fit(config, train, validation, features, Path(scratch), progress)
    if len(train) < config.batch_size * config.devices:
        each = f" on each of {config.devices} devices" if config.devices > 1 else ""
        most = len(train) // config.devices
        raise ValueError(f"batch_size: wanted at most {most} ({len(train)} training items), got {config.batch_size}{each}")
    if config.accelerator == "gpu" and not torch.cuda.is_available():
        raise ValueError("accelerator: got 'gpu', but torch sees no CUDA device here; wanted 'auto' or 'cpu'")
    module = _module(config, train, features)
    module.run = _run(config, train, features)
    data = _data(train, config)
    if config.gammas:
        data = data._replace(features=features_of(features, train.items).to(data.items.device))
    followed = _data(validation, config)
    sampler = Batches(len(train), config.batch_size, config.seed, config.devices)
    batches = Loader(data, sampler, module.references if config.gammas else None, config.every)
    history = History()
    trainer = _trainer(config, folder, history, progress, len(batches))
    checkpoint = _usable(folder / CHECKPOINT, module.run)
    with warnings.catch_warnings():
        # the whole data set is a tensor in memory: no worker processes wanted
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # F is meant to be
        warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")  # Lightning's own use of torch
        parts = [each for each in (followed.items, followed.betti) if each is not None]
        on_interrupt = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, batches, DataLoader(TensorDataset(*parts), batch_size=500), ckpt_path=checkpoint)
        except SystemExit as error:
            if not isinstance(error.__context__, KeyboardInterrupt):
                raise
            signal.signal(signal.SIGINT, on_interrupt)  # Lightning answers Ctrl-C by ending the caller, and ignores others
            raise KeyboardInterrupt("training was interrupted; run it again to go on from the last epoch") from None
    if config.devices > 1:  # other processes did the work; what they learned is in the checkpoint
        state = torch.load(folder / CHECKPOINT, weights_only=True, map_location="cpu")
        module.load_state_dict(state["state_dict"])
        history.load_state_dict(state["callbacks"][history.state_key])
    model = module.average.module if isinstance(module, TrainingDiffusion) else module.model
    return Trained(model.cpu().eval(), pd.DataFrame(history.rows))


def _run(config: RunConfig, train: Dataset, features: nn.Module) -> str:
    """Name of all that decides a run: digests of the parameters, the training items and F."""
    weights = hashlib.sha256(b"".join(each.cpu().numpy().tobytes() for each in features.state_dict().values()))
    return f"{config.digest()}-{train.digest[:8]}-{weights.hexdigest()[:8]}"


def _module(config: RunConfig, train: Dataset, features: nn.Module) -> Training:
    """The model that a configuration describes, ready to train."""
    compared = [name for name in config.gammas if name != "betti"]
    regularizers = {name: _calibrated(regularizer(config, name), config, name, train, features) for name in compared}
    seed_everything(config.seed, "initial weights")
    if isinstance(config, DiffusionConfig):
        classes = None if config.condition == "none" else int(known_betti(train, config.betti_dimension).max()) + 1
        return TrainingDiffusion(
            untrained(config, train.shape, classes).fit_scale(train.items), config, features, regularizers
        )
    return TrainingVAE(untrained(config, train.shape), config, features, regularizers)


def untrained(config: RunConfig, shape: tuple[int, ...], classes: int | None = None) -> VAE | Diffusion:
    """The network that a configuration describes, for items of this shape; ``classes`` is the number of conditions."""
    domain = REGISTRY[config.dataset].domain.name
    if not isinstance(config, DiffusionConfig):
        return VAE(shape, config.latent_dimension, domain, config.width)
    if domain in ("images", "masks"):
        network = UNet(shape, config.width, classes)
    else:
        network = ResidualMLP(shape, 8 * config.width, classes=classes)
    return Diffusion(network, shape, config.sigma_min, config.sigma_max, config.schedule)


def known_betti(data: Dataset, dimension: int) -> Tensor:
    """Betti number of each image, ``(n,)``: what is known of it, or what its domain finds."""
    if data.domain.name not in ("images", "masks"):
        raise ValueError(f"dataset: wanted images or masks, whose Betti numbers are known, got '{data.name}'")
    known = data.properties.get("betti")
    return (data.domain.betti(data.items) if known is None else known)[:, dimension]


def device_of(config: RunConfig) -> str:
    """``"cuda"`` where one GPU does the work, else ``"cpu"``."""
    return "cuda" if config.accelerator != "cpu" and config.devices == 1 and torch.cuda.is_available() else "cpu"


def _data(data: Dataset, config: RunConfig) -> Batch:
    """All items and their Betti numbers where these are needed, on the device where one device does the work."""
    wanted = isinstance(config, DiffusionConfig) and (config.condition != "none" or config.gamma_betti)
    betti = known_betti(data, config.betti_dimension) if wanted else None
    device = device_of(config)
    return Batch(data.items.to(device), betti=None if betti is None else betti.to(device))


def regularizer(config: RunConfig, comparison: str) -> nn.Module:
    """The loss of a comparison, not yet calibrated: L_topo, or the control that the configuration names in its place."""
    scale_free = comparison == "latent"
    if config.regularizer == "distances":
        return DistanceMatching(scale_free)
    if config.regularizer in ("critical-edges", "critical-edges-h1"):
        return CriticalEdgeMatching(int(config.regularizer == "critical-edges-h1"), scale_free)
    if config.regularizer == "energy":
        return EnergyDistance()
    options = {"filtration": config.filtration, "k": config.k, "scale_free": scale_free}
    if comparison == "sample":
        domain = REGISTRY[config.dataset].domain
        if domain.filtration is None:
            raise ValueError(f"gamma_sample: wanted 0 for '{config.dataset}', whose items are single points")
        options = {"filtration": domain.filtration}
    loss = TopologicalLoss(
        config.representation, levels=config.levels, weights=(config.h0_weight, config.h1_weight), **options
    )
    return loss if config.regularizer == "topological" else NullReference(loss, config.regularizer)


def _calibrated(loss: nn.Module, config: RunConfig, comparison: str, train: Dataset, features: nn.Module) -> nn.Module:
    """Its grid fitted on sixteen random clouds of training features, or on the clouds of as many single items."""
    stream = generator(config.seed, "grid")
    if comparison == "sample":
        return loss.fit(train.domain.cloud(train.items[torch.randperm(len(train), generator=stream)[: config.cloud_size]]))
    chosen = torch.stack([torch.randperm(len(train), generator=stream)[: config.cloud_size] for _ in range(16)])
    return loss.fit(features_of(features, train.items[chosen.flatten()]).view(*chosen.shape, -1))


def _trainer(config: RunConfig, folder: Path, history: History, progress: str, steps: int) -> lightning.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # after each epoch; Lightning writes it atomically, so that a killed run leaves the old or the new one
    checkpoint = ModelCheckpoint(folder, Path(CHECKPOINT).stem, save_on_train_epoch_end=True, enable_version_counter=False)
    reporters = {"bar": [Bar(config.model)], "lines": [Lines(config.model, history)], "none": []}
    if progress not in reporters:
        raise ValueError(f"progress: wanted one of {', '.join(map(repr, reporters))}, got {progress!r}")
    return lightning.Trainer(
        max_epochs=config.epochs,
        accelerator=config.accelerator,
        devices=config.devices,
        strategy="auto" if config.devices == 1 else "ddp_notebook",  # works in scripts, too
        use_distributed_sampler=False,
        precision=config.precision,
        gradient_clip_val=config.gradient_clip,
        logger=[CSVLogger(folder, LOGS, version=""), TensorBoardLogger(folder, LOGS, version="")],
        callbacks=[history, checkpoint, *reporters[progress]],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=min(10, steps),
    )


def _usable(checkpoint: Path, wanted: str) -> Path | None:
    """The checkpoint when there is one that can be read; a damaged one is named, removed, and training starts over."""
    if not checkpoint.exists():
        return None
    try:
        run = torch.load(checkpoint, weights_only=True, map_location="cpu")["run"]
    except Exception as error:  # whatever a damaged file makes the unpickler raise
        print(f"{checkpoint.name} cannot be read ({type(error).__name__}): training starts over", flush=True)
        checkpoint.unlink()
        return None
    if run != wanted:
        raise ValueError(
            f"folder: {checkpoint} belongs to the run {run}, not to {wanted} (parameters, data, F); name another folder"
        )
    return checkpoint
