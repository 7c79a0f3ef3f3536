"""Training of the VAE family on Lightning: one function, :func:`fit`."""

from __future__ import annotations

import logging
import math
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, TensorDataset

from topo_utils.config import RunConfig
from topo_utils.datasets import Dataset
from topo_utils.models.features import Autoencoder
from topo_utils.models.vae import VAE, Posterior, reconstruction_nats
from topo_utils.seed import generator, seed_everything
from topo_utils.topology import TopologicalLoss

LOGS, CHECKPOINT = "logs", "checkpoint.ckpt"


class DivergenceError(RuntimeError):
    """The loss is not finite. The message says where, which term, and what usually helps."""


class Trained(NamedTuple):
    """A trained model in evaluation mode on the CPU, and its history: a row an epoch."""

    model: VAE
    history: pd.DataFrame


class TrainingVAE(lightning.LightningModule):
    """Loss = -E_q[log p(x|z)] + β D_KL + γ L_topo, the mean over the batch (the proposal, section 2.5 A).

    For γ = 0 no topology is computed and no random number is drawn for it: the run is the plain VAE's, bit for bit.

    Parameters
    ----------
    model
        The network.
    config
        Weights and sizes.
    features
        The initial autoencoder F, frozen.
    topological_loss
        L_topo, its grid calibrated; None for γ = 0.
    """

    def __init__(self, model: VAE, config: RunConfig, features: Autoencoder, topological_loss: TopologicalLoss | None):
        super().__init__()
        self.model, self.config = model, config
        self.initial_autoencoder, self.topological_loss = features, topological_loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.model.parameters(), lr=self.config.learning_rate)

    def train(self, mode: bool = True) -> TrainingVAE:
        super().train(mode)
        self.initial_autoencoder.eval()  # frozen, whatever the mode of the rest
        return self

    def on_train_batch_start(self, batch: tuple[Tensor], index: int) -> None:
        # Each step has its own stream: a run that was interrupted and resumed equals one that was not.
        seed_everything(self.config.seed, "step", self.global_step)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["run"] = self.config.digest()

    def training_step(self, batch: tuple[Tensor, list[Tensor] | None], _: int) -> Tensor:
        x, reference = batch
        posterior, logits = self.model(x)
        terms = {"reconstruction": reconstruction_nats(logits, x).mean(), "kl": posterior.kl().mean()}
        loss = terms["reconstruction"] + self.config.beta * terms["kl"]
        start = time.perf_counter()
        if reference is not None:
            terms["topological"] = self.topological_term(reference, posterior, logits)
            loss = loss + self.config.gamma * self.warmup() * terms["topological"]
        terms["topological_seconds"] = torch.tensor(time.perf_counter() - start)
        terms["loss"] = loss
        self.check_finite(terms)
        self.terms = {name: value.detach() for name, value in terms.items()}
        self.log_dict({f"train/{name}": value for name, value in self.terms.items()}, on_step=True)
        return loss

    @torch.no_grad()
    def reference(self, x: Tensor) -> list[Tensor]:
        """The data side of L_topo, landscapes or images of clouds of F(x): it needs no model, so it can be made ahead."""
        return self.topological_loss.vectors(self.clouds(self.initial_autoencoder.features(x.to(self.device))))

    def topological_term(self, reference: list[Tensor], posterior: Posterior, logits: Tensor) -> Tensor:
        """L_topo of the batch, cut into clouds: F(x) against μ(x), F(x̂), or F(G(z)) with z from the prior."""
        if self.config.comparison == "latent":
            return self.topological_loss(reference, self.clouds(posterior.mean))
        if self.config.comparison == "generated":
            logits = self.model.logits(torch.randn_like(posterior.mean))
        return self.topological_loss(reference, self.clouds(self.initial_autoencoder.features(torch.sigmoid(logits))))

    def clouds(self, points: Tensor) -> Tensor:
        """A batch ``(n, d)`` as clouds ``(n // size, size, d)``; the batch is in random order, so these are random."""
        size = self.config.cloud_size
        whole = len(points) // size * size
        return points[:whole].reshape(-1, size, points.shape[1])

    def warmup(self) -> float:
        """Factor of γ: rises linearly from 0 to 1 over the first ``warmup`` of all steps."""
        steps = self.config.warmup * self.trainer.estimated_stepping_batches
        return min(1.0, (self.global_step + 1) / steps) if steps else 1.0

    def check_finite(self, terms: dict[str, Tensor]) -> None:
        bad = {name: value.item() for name, value in terms.items() if not torch.isfinite(value)}
        if bad:
            raise DivergenceError(
                f"training diverged in epoch {self.current_epoch}, step {self.global_step}: "
                + ", ".join(f"{name} = {value}" for name, value in bad.items())
                + f". Try a smaller learning_rate (now {self.config.learning_rate}) or gamma (now {self.config.gamma})"
            )

    def validation_step(self, batch: tuple[Tensor], _: int) -> None:
        (x,) = batch
        posterior = self.model.encode(x)
        terms = {"reconstruction": reconstruction_nats(self.model.logits(posterior.mean), x), "kl": posterior.kl()}
        self.log_dict({f"validation/{name}": value.mean() for name, value in terms.items()}, batch_size=len(x))


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
            self.values.setdefault(name, []).append(float(value))

    def on_train_epoch_end(self, trainer, module) -> None:
        means = {name: sum(values) / len(values) for name, values in self.values.items()}
        validation = {
            name.replace("validation/", "validation_"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("validation/")
        }
        times = {
            "seconds": time.perf_counter() - self.start,
            "topological_seconds": sum(self.values["topological_seconds"]),
        }
        self.rows.append({"epoch": trainer.current_epoch, **means, **validation, **times})


class Lines(Callback):
    """A plain line now and then, for logs and executed notebooks where a moving bar would only leave clutter."""

    def __init__(self, name: str, history: History, lines: int = 5):
        self.name, self.history, self.lines = name, history, lines

    def on_train_epoch_end(self, trainer, module) -> None:
        epoch, row = trainer.current_epoch + 1, self.history.rows[-1]
        if epoch == trainer.max_epochs or epoch % math.ceil(trainer.max_epochs / self.lines) == 0:
            topological = f"  L_topo {row['topological']:.4f}" if "topological" in row else ""
            print(
                f"{self.name:>8}  epoch {epoch:3d}/{trainer.max_epochs}  reconstruction {row['reconstruction']:.1f} nats"
                f"  KL {row['kl']:.1f} nats{topological}",
                flush=True,
            )


class Batches(Sampler):
    """Batches of indices in an order that depends on the seed and the epoch alone, not on what was drawn before."""

    def __init__(self, size: int, batch_size: int, seed: int):
        self.size, self.batch_size, self.seed, self.epoch = size, batch_size, seed, 0

    def __len__(self) -> int:
        return self.size // self.batch_size

    def set_epoch(self, epoch: int) -> None:  # called by Lightning
        self.epoch = epoch

    def __iter__(self):
        order = torch.randperm(self.size, generator=generator(self.seed, "order", self.epoch))
        yield from order[: len(self) * self.batch_size].split(self.batch_size)  # the odd rest waits for another epoch


class Loader:
    """Batches of items that lie in memory, each with what ``prepare`` makes of it.

    ``prepare`` works in a background thread, a few batches ahead of the training; the results are the same as without.

    Parameters
    ----------
    items
        All items, ``(n, ...)``.
    sampler
        Gives the indices of each batch.
    prepare
        None: nothing is prepared, and each batch comes with None.
    every
        Prepare only each ``every``-th batch, the first one included.
    ahead
        Number of batches that are prepared in advance.
    """

    def __init__(self, items: Tensor, sampler: Batches, prepare: Callable | None = None, every: int = 1, ahead: int = 2):
        self.items, self.sampler, self.prepare, self.every, self.ahead = items, sampler, prepare, every, ahead

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        batches = (self.items[indices] for indices in self.sampler)
        if self.prepare is None:
            yield from ((batch, None) for batch in batches)
            return
        with ThreadPoolExecutor(1) as pool:
            started = (
                (batch, pool.submit(self.prepare, batch) if index % self.every == 0 else None)
                for index, batch in enumerate(batches)
            )
            waiting = deque(islice(started, self.ahead))
            while waiting:
                batch, prepared = waiting.popleft()
                waiting.extend(islice(started, 1))
                yield batch, prepared and prepared.result()


def fit(
    config: RunConfig,
    train: Dataset,
    validation: Dataset,
    features: Autoencoder,
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
    if len(train) < config.batch_size:
        raise ValueError(f"batch_size: wanted at most {len(train)} (the training items), got {config.batch_size}")
    if config.accelerator == "gpu" and not torch.cuda.is_available():
        raise ValueError("accelerator: got 'gpu', but torch sees no CUDA device here; wanted 'auto' or 'cpu'")
    seed_everything(config.seed, "initial weights")
    model = VAE(train.shape, config.latent_dimension)
    loss = _topological_loss(config, train, features) if config.gamma > 0 else None
    module = TrainingVAE(model, config, features, loss)
    prepare = module.reference if loss else None
    batches = Loader(train.items, Batches(len(train), config.batch_size, config.seed), prepare, config.every)
    history = History()
    trainer = _trainer(config, folder, history, progress, len(batches))
    checkpoint = _usable(folder / CHECKPOINT, config)
    with warnings.catch_warnings():
        # the whole data set is a tensor in memory: no worker processes wanted
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # F is meant to be
        warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")  # Lightning's own use of torch
        trainer.fit(module, batches, DataLoader(TensorDataset(validation.items), batch_size=500), ckpt_path=checkpoint)
    if trainer.interrupted:
        raise KeyboardInterrupt("training was interrupted; run it again to go on from the last epoch")
    return Trained(module.model.cpu().eval(), pd.DataFrame(history.rows))


def _topological_loss(config: RunConfig, train: Dataset, features: Autoencoder) -> TopologicalLoss:
    """L_topo with its grid calibrated on sixteen random clouds of training features."""
    loss = TopologicalLoss(
        representation=config.representation,
        levels=config.levels,
        weights=(config.h0_weight, config.h1_weight),
        scale_free=config.comparison == "latent",
    )
    stream = generator(config.seed, "grid")
    chosen = torch.stack([torch.randperm(len(train), generator=stream)[: config.cloud_size] for _ in range(16)])
    with torch.no_grad():
        return loss.fit(features.features(train.items[chosen.flatten()]).view(*chosen.shape, -1))


def _trainer(config: RunConfig, folder: Path, history: History, progress: str, steps: int) -> lightning.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # after each epoch; Lightning writes it atomically, so that a killed run leaves the old or the new one
    checkpoint = ModelCheckpoint(folder, Path(CHECKPOINT).stem, save_on_train_epoch_end=True, enable_version_counter=False)
    reporters = {"bar": [TQDMProgressBar(leave=True)], "lines": [Lines(config.model, history)], "none": []}
    if progress not in reporters:
        raise ValueError(f"progress: wanted one of {', '.join(map(repr, reporters))}, got {progress!r}")
    return lightning.Trainer(
        max_epochs=config.epochs,
        accelerator=config.accelerator,
        devices=1,
        logger=[CSVLogger(folder, LOGS, version=""), TensorBoardLogger(folder, LOGS, version="")],
        callbacks=[history, checkpoint, *reporters[progress]],
        enable_progress_bar=progress == "bar",
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=min(10, steps),
    )


def _usable(checkpoint: Path, config: RunConfig) -> Path | None:
    """The checkpoint when there is one that can be read; a damaged one is named, removed, and training starts over."""
    if not checkpoint.exists():
        return None
    try:
        run = torch.load(checkpoint, weights_only=True, map_location="cpu")["run"]
    except Exception as error:  # whatever a damaged file makes the unpickler raise
        print(f"{checkpoint.name} cannot be read ({type(error).__name__}): training starts over", flush=True)
        checkpoint.unlink()
        return None
    if run != config.digest():
        raise ValueError(f"folder: {checkpoint} belongs to the run {run}, not to {config.digest()}; name another folder")
    return checkpoint
