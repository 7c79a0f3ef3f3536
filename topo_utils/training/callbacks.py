"""What goes on beside the training: its history, and how its progress is shown."""

from __future__ import annotations

import math
import time

from lightning.pytorch.callbacks import Callback
from tqdm.auto import tqdm


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
