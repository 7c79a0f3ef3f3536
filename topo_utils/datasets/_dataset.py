"""What every loader gives."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from topo_utils.seed import generator

SPLITS = ("train", "validation", "test", "judge")


class DataError(RuntimeError):
    """A data set is missing or damaged. The message says what, where, and what to do."""


@dataclass(frozen=True)
class Dataset:
    """One split of a data set, checked when it is made.

    Attributes
    ----------
    name, split
        Where the items come from.
    items
        ``(n, channels, height, width)``, float32 in [0, 1].
    labels
        ``(n,)``, int64.
    """

    name: str
    split: str
    items: Tensor
    labels: Tensor

    def __post_init__(self):
        what = f"{self.name}/{self.split}"
        if self.items.dtype != torch.float32 or self.items.ndim != 4 or not len(self.items):
            raise DataError(
                f"{what}: wanted float32 items of shape (n, channels, height, width) with n >= 1, "
                f"got {self.items.dtype} {tuple(self.items.shape)}"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.items.shape[:1]:
            raise DataError(
                f"{what}: wanted {len(self.items)} int64 labels, got {self.labels.dtype} {tuple(self.labels.shape)}"
            )
        bad = ~((self.items >= 0) & (self.items <= 1)).flatten(1).all(1)  # NaN fails both comparisons
        if bad.any():
            first = int(bad.nonzero()[0])
            value = self.items[first][~((self.items[first] >= 0) & (self.items[first] <= 1))][0].item()
            raise DataError(f"{what}: wanted pixels in [0, 1], got {value} in item {first} ({int(bad.sum())} such items)")

    def __len__(self) -> int:
        return len(self.items)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one item."""
        return tuple(self.items.shape[1:])

    @cached_property
    def digest(self) -> str:
        """Eight hexadecimal digits that name the content."""
        content = hashlib.sha256(f"{self.name}/{self.split}".encode())
        content.update(self.items.numpy().tobytes())
        content.update(self.labels.numpy().tobytes())
        return content.hexdigest()[:8]

    def subset(self, size: int, seed: int = 0) -> Dataset:
        """``size`` items drawn without replacement; raises ValueError when there are not so many."""
        if not 1 <= size <= len(self):
            raise ValueError(f"limit: wanted 1 to {len(self)} (the size of {self.name}/{self.split}), got {size}")
        chosen = torch.randperm(len(self), generator=generator(seed, "subset"))[:size]
        return replace(self, items=self.items[chosen], labels=self.labels[chosen])
