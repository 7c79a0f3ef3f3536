"""Batches of items that lie in memory, and what belongs to each item."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Sampler

from topo_utils.seed import generator


class Batch(NamedTuple):
    """Items, and what belongs to each of them.

    Attributes
    ----------
    items
        ``(batch, ...)``.
    features
        F of the items, ``(batch, d)``; None when nothing is compared.
    known
        What a family of models wants to know of each item, by name, ``(batch, ...)`` each.
    references
        What the regularisers made ahead of the features, by comparison; None when this step has no regulariser.
    """

    items: Tensor
    features: Tensor | None = None
    known: Mapping[str, Tensor] = {}
    references: dict[str, Any] | None = None

    def take(self, chosen: Tensor) -> Batch:
        """Some of the items, with what belongs to them."""
        return Batch(
            self.items[chosen],
            None if self.features is None else self.features[chosen],
            {name: values[chosen] for name, values in self.known.items()},
        )


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


class Parts:
    """All items in their order, in parts of at most ``size``."""

    def __init__(self, data: Batch, size: int):
        self.data, self.chosen = data, torch.arange(len(data.items)).split(size)

    def __len__(self) -> int:
        return len(self.chosen)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.data.take, self.chosen)


class Loader:
    """Batches, each with its references.

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
        References for each ``every``-th batch only, counted over all epochs, the very first one included.
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
        first = self.sampler.epoch * len(self.sampler)
        with ThreadPoolExecutor(1) as pool:
            started = (self._start(pool, step, indices) for step, indices in enumerate(self.sampler, first))
            waiting = deque(islice(started, self.ahead))
            while waiting:
                batch, prepared = waiting.popleft()
                waiting.extend(islice(started, 1))
                yield batch._replace(references=prepared and prepared.result())

    def _start(self, pool: ThreadPoolExecutor, step: int, indices: Tensor) -> tuple[Batch, Future | None]:
        batch = self.data.take(indices)
        return batch, pool.submit(self.prepare, batch) if step % self.every == 0 else None
