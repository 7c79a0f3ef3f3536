"""Training of the VAE family on Lightning: one function, :func:`fit`."""

from __future__ import annotations

import logging
import math
import tempfile
import time
import warnings
from pathlib import Path
from typing import NamedTuple

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
        L_topo, its grid calibrated.
    """

    def __init__(self, model: VAE, config: RunConfig, features: Autoencoder, topological_loss: TopologicalLoss):
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

    def training_step(self, batch: tuple[Tensor], _: int) -> Tensor:
        (x,) = batch
        posterior, logits = self.model(x)
        terms = {"reconstruction": reconstruction_nats(logits, x).mean(), "kl": posterior.kl().mean()}
        loss = terms["reconstruction"] + self.config.beta * terms["kl"]
        start = time.perf_counter()
        if self.config.gamma > 0:
            terms["topological"] = self.topological_term(x, posterior, logits)
            loss = loss + self.config.gamma * self.warmup() * terms["topological"]
        terms["topological_seconds"] = torch.tensor(time.perf_counter() - start)
        terms["loss"] = loss
        self.check_finite(terms)
        self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()}, on_step=True)
        return loss

    def topological_term(self, x: Tensor, posterior: Posterior, logits: Tensor) -> Tensor:
        """L_topo of the batch, cut into clouds: F(x) against μ(x) (``latent``) or F(x̂) (``reconstruction``)."""
        with torch.no_grad():
            reference = self.clouds(self.initial_autoencoder.features(x))
        if self.config.comparison == "latent":
            cloud = posterior.mean
        else:
            cloud = self.initial_autoencoder.features(torch.sigmoid(logits))
        return self.topological_loss(reference, self.clouds(cloud))

    def clouds(self, points: Tensor) -> Tensor:
        """A batch ``(n, d)`` as clouds ``(n // size, size, d)``; the batch is in random order, so these are random."""
        size = min(self.config.cloud_size, len(points))
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
        self.start, self.sums, self.steps = time.perf_counter(), {}, 0

    def on_train_batch_end(self, trainer, module, outputs, batch, index) -> None:
        self.steps += 1
        for name in ("loss", "reconstruction", "kl", "topological", "topological_seconds"):
            value = trainer.callback_metrics.get(f"train/{name}")
            if value is not None:
                self.sums[name] = self.sums.get(name, 0.0) + float(value)

    def on_train_epoch_end(self, trainer, module) -> None:
        means = {name: total / self.steps for name, total in self.sums.items()}
        validation = {
            name.replace("validation/", "validation_"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("validation/")
        }
        times = {
            "seconds": time.perf_counter() - self.start,
            "topological_seconds": self.sums["topological_seconds"],
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
    module = TrainingVAE(
        VAE(train.shape, config.latent_dimension), config, features, _topological_loss(config, train, features)
    )
    history = History()
    trainer = _trainer(config, folder, history, progress)
    checkpoint = _usable(folder / CHECKPOINT, config)
    with warnings.catch_warnings():
        # the whole data set is a tensor in memory: no worker processes wanted
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # F is meant to be
        warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")  # Lightning's own use of torch
        trainer.fit(module, _loader(train, config), _loader(validation), ckpt_path=checkpoint)
    if trainer.interrupted:
        raise KeyboardInterrupt("training was interrupted; run it again to go on from the last epoch")
    return Trained(module.model.cpu().eval(), pd.DataFrame(history.rows))


def _topological_loss(config: RunConfig, train: Dataset, features: Autoencoder) -> TopologicalLoss:
    """L_topo with its grid calibrated on sixteen random clouds of training features."""
    loss = TopologicalLoss(
        levels=config.levels,
        weights=(config.h0_weight, config.h1_weight),
        scale_free=config.comparison == "latent",
    )
    size = min(config.cloud_size, config.batch_size, len(train))
    stream = generator(config.seed, "grid")
    chosen = torch.stack([torch.randperm(len(train), generator=stream)[:size] for _ in range(16)])
    with torch.no_grad():
        return loss.fit(features.features(train.items[chosen.flatten()]).view(16, size, -1))


def _loader(data: Dataset, config: RunConfig | None = None) -> DataLoader:
    """Random batches for training, or, without a config, everything in order in large ones."""
    items = TensorDataset(data.items)
    if config is None:
        return DataLoader(items, batch_size=500)
    return DataLoader(items, sampler=Batches(len(data), config.batch_size, config.seed), batch_size=None)


def _trainer(config: RunConfig, folder: Path, history: History, progress: str) -> lightning.Trainer:
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
        log_every_n_steps=1,
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
