"""One function that trains whatever a configuration describes: :func:`fit`."""

from __future__ import annotations

import logging
import signal
import tempfile
import warnings
import zipfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import nn

from topo_utils import sealed
from topo_utils.config import RunConfig
from topo_utils.datasets import Dataset
from topo_utils.models.features import Autoencoder, Identity, digest_of, features_of
from topo_utils.seed import seed_everything
from topo_utils.training import regularizers
from topo_utils.training.callbacks import Bar, History, Lines
from topo_utils.training.families import Specification
from topo_utils.training.loader import Batch, Batches, Loader, Parts
from topo_utils.training.matching import BATCHES, Matching
from topo_utils.training.module import Training

LOGS, CHECKPOINT = "logs", "checkpoint.ckpt"
FOLLOWED = 500  # validation items in a batch


@dataclass(frozen=True)
class Trained:
    """A trained model, and where it comes from.

    Attributes
    ----------
    model
        In evaluation mode, on the CPU.
    history
        A row an epoch.
    specification
        All that the network is made from.
    origin
        What it was trained on: each split's name, size and digest, and the digest of F.
    """

    model: nn.Module
    history: pd.DataFrame
    specification: Specification
    origin: dict[str, Any]

    @property
    def pull(self) -> dict[str, float]:
        """How hard the regulariser pulled: ``gradient_ratio``, in the last epoch in which it was taken, and the means over
        the epochs of the factors of a control that was matched; nothing of a model without one.
        """
        if "gradient_topological" not in self.history or self.history["gradient_topological"].isna().all():
            return {}
        ratio = (self.history["gradient_topological"] / self.history["gradient_loss"]).dropna()  # where it enters
        factors = [name for name in self.history if name.startswith("factor_")]
        return {"gradient_ratio": float(ratio.iloc[-1]), **self.history[factors].mean().to_dict()}


def fit(
    config: RunConfig,
    train: Dataset,
    validation: Dataset,
    features: Autoencoder | Identity,
    folder: Path | None = None,
    progress: str = "bar",
) -> Trained:
    """Train the model that ``config`` describes, on the items that are given.

    Parameters
    ----------
    config
        The run. Its ``dataset`` and ``limit``, where they are named, are those of ``train``.
    train, validation
        Items to train on, and to follow the training on; their domain says how they are read.
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
        Data that contradict the configuration or each other, fewer training items than a batch has, or
        ``accelerator="gpu"`` where there is none.
    """
    _check(config, train, validation, features)
    if folder is None:
        with tempfile.TemporaryDirectory() as scratch:
            return fit(config, train, validation, features, Path(scratch), progress)
    specification = Specification.of(config, train)
    origin = {"train": train.described(), "validation": validation.described(), "features": digest_of(features)}
    module = _module(specification, train, features)
    module.run = sealed.digest({}, {"specification": str(specification.written()), "origin": str(origin)})
    data = _data(train, specification)
    if config.gammas:
        data = data._replace(features=features_of(features, train.items).to(data.items.device))
    sampler = Batches(len(train), config.batch_size, config.seed, config.devices)
    batches = Loader(data, sampler, module.references if config.gammas else None, config.every)
    followed = Parts(_data(validation, specification), FOLLOWED)
    history = History()
    callbacks = [history, *_matching(module, specification, train, validation, features)]
    trainer = _trainer(config, folder, callbacks, progress, len(batches))
    _run(trainer, module, batches, followed, _usable(folder / CHECKPOINT, module.run))
    if config.devices > 1:  # other processes did the work; what they learned is in the checkpoint
        state = torch.load(folder / CHECKPOINT, weights_only=True, map_location="cpu")
        module.load_state_dict(state["state_dict"])
        history.load_state_dict(state["callbacks"][history.state_key])
    return Trained(module.trained.cpu().eval(), pd.DataFrame(history.rows), specification, origin)


def device_of(config: RunConfig) -> str:
    """``"cuda"`` where one GPU does the work, else ``"cpu"``."""
    return "cuda" if config.accelerator != "cpu" and config.devices == 1 and torch.cuda.is_available() else "cpu"


def _check(config: RunConfig, train: Dataset, validation: Dataset, features: Autoencoder | Identity) -> None:
    if config.dataset is not None and config.dataset != train.name:
        raise ValueError(
            f"dataset: the configuration names '{config.dataset}', but the training items are of '{train.name}'; "
            "name the same one, or None for whatever is given"
        )
    if config.limit is not None and len(train) > config.limit:
        raise ValueError(f"limit: the configuration wants at most {config.limit} training items, got {len(train)}")
    of = [(data.domain.name, data.shape) for data in (train, validation)]
    if of[0] != of[1]:
        raise ValueError(f"validation: wanted {of[0][0]} of shape {of[0][1]} as in train, got {of[1][0]} of {of[1][1]}")
    if features.shape not in (None, train.shape):
        raise ValueError(f"features: wanted F of items of shape {train.shape}, got one of {features.shape}")
    if len(train) < config.batch_size * config.devices:
        each = f" on each of {config.devices} devices" if config.devices > 1 else ""
        most = len(train) // config.devices
        raise ValueError(f"batch_size: wanted at most {most} ({len(train)} training items), got {config.batch_size}{each}")
    if config.accelerator == "gpu" and not torch.cuda.is_available():
        raise ValueError("accelerator: got 'gpu', but torch sees no CUDA device here; wanted 'auto' or 'cpu'")


def _module(specification: Specification, train: Dataset, features: nn.Module) -> Training:
    """The model that a configuration describes, ready to train."""
    config, training = specification.config, specification.training
    losses = regularizers.calibrated(config, train, features)
    seed_everything(config.seed, "initial weights")
    return training(
        training.started(config, specification.build(), train, features), config, train.domain, features, losses
    )


def _data(data: Dataset, specification: Specification) -> Batch:
    """All items and what has to be known of them, on the device where one device does the work."""
    config = specification.config
    device = device_of(config)
    known = specification.training.known(config, data)
    return Batch(data.items.to(device), known={name: values.to(device) for name, values in known.items()})


def _run(trainer: lightning.Trainer, module: Training, batches: Loader, followed: Parts, checkpoint: Path | None) -> None:
    """Train, and leave the caller alone: with Lightning's remarks on what is meant, and with what it makes of Ctrl-C."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # F is meant to be
        warnings.filterwarnings("ignore", message=".*`srun` command is available")  # on a login node; not asked for
        warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")  # Lightning's own use of torch
        on_interrupt = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, batches, followed, ckpt_path=checkpoint)
        except SystemExit as error:
            if not isinstance(error.__context__, KeyboardInterrupt):
                raise
            signal.signal(signal.SIGINT, on_interrupt)  # Lightning answers Ctrl-C by ending the caller, and ignores others
            raise KeyboardInterrupt("training was interrupted; run it again to go on from the last epoch") from None


def _matching(
    module: Training, specification: Specification, train: Dataset, validation: Dataset, features: nn.Module
) -> list[Matching]:
    """What makes a control pull as hard as L_topo, where that is wanted."""
    config = specification.config
    if config.match == "gamma" or config.regularizer == "topological" or not module.regularizers:
        return []
    losses = regularizers.calibrated(config.replace(regularizer="topological"), train, features)
    yardstick = specification.training(module.model, config, train.domain, features, losses)
    data = _data(validation, specification)
    data = data._replace(features=features_of(features, validation.items).to(data.items.device))
    size = min(config.batch_size, len(validation))
    if size < config.cloud_size:
        raise ValueError(f"validation: wanted at least cloud_size ({config.cloud_size}) items to match on, got {size}")
    whole = (batch for batch in Parts(data, size) if len(batch.items) == size)
    return [Matching(yardstick, islice(whole, BATCHES))]


def _trainer(config: RunConfig, folder: Path, callbacks: list[Callback], progress: str, steps: int) -> lightning.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # after each epoch; Lightning writes it atomically, so that a killed run leaves the old or the new one
    checkpoint = ModelCheckpoint(folder, Path(CHECKPOINT).stem, save_on_train_epoch_end=True, enable_version_counter=False)
    reporters = {"bar": [Bar(config.model)], "lines": [Lines(config.model, callbacks[0])], "none": []}
    if progress not in reporters:
        raise ValueError(f"progress: wanted one of {', '.join(map(repr, reporters))}, got {progress!r}")
    return lightning.Trainer(
        max_epochs=config.epochs,
        accelerator=config.accelerator,
        devices=config.devices,
        strategy="auto" if config.devices == 1 else "ddp_notebook",  # works in scripts, too
        plugins=LightningEnvironment(),  # or else a login node or a job of Slurm would be taken for the order to use it
        use_distributed_sampler=False,
        precision=config.precision,
        gradient_clip_val=config.gradient_clip,
        logger=[CSVLogger(folder, LOGS, version=""), TensorBoardLogger(folder, LOGS, version="")],
        callbacks=[*callbacks, checkpoint, *reporters[progress]],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=min(10, steps),
    )


def _usable(checkpoint: Path, wanted: str) -> Path | None:
    """The checkpoint when there is one that is whole; a damaged one is named, removed, and training starts over."""
    if not checkpoint.exists():
        return None
    try:
        with zipfile.ZipFile(checkpoint) as parts:  # torch does not look at the checksums that it writes
            if damaged := parts.testzip():
                raise zipfile.BadZipFile(f"{damaged} is not what was written")
        run = torch.load(checkpoint, weights_only=True, map_location="cpu")["run"]
    except Exception as error:  # whatever a damaged file makes the unpickler raise
        print(f"{checkpoint.name} cannot be read ({type(error).__name__}: {error}): training starts over", flush=True)
        checkpoint.unlink()
        return None
    if run != wanted:
        raise ValueError(
            f"folder: {checkpoint} belongs to another run (parameters, data or F): {run:.12}, not {wanted:.12}; "
            "name another folder"
        )
    return checkpoint
