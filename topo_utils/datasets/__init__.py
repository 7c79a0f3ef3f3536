"""Data sets by name: ``load("digits", "train")``.

Each loader gives the same thing: items as one tensor, labels and properties, a fixed split, and the domain, which knows how
an item is drawn and what topology it has. Splits never overlap: ``train`` fits models, ``validation`` chooses between them,
``test`` is used once, and ``judge`` trains the independent classifier that judges generated samples.
"""

from __future__ import annotations

import os

from topo_utils.datasets import graphs, images, masks, molecules, proteins, shapes
from topo_utils.datasets._dataset import SPLITS, DataError, Dataset, Domain, Source

REGISTRY: dict[str, Source] = {
    source.name: source for module in (images, molecules, proteins, graphs, shapes, masks) for source in module.SOURCES
}

__all__ = ["REGISTRY", "SPLITS", "DataError", "Dataset", "Domain", "Source", "load"]


def load(
    name: str, split: str, *, root: str | os.PathLike | None = None, limit: int | None = None, seed: int = 0
) -> Dataset:
    """Load one split of a data set.

    Parameters
    ----------
    name
        A name in :data:`REGISTRY`.
    split
        One of the splits that it has, see :data:`SPLITS`.
    root
        Folder of data sets that is looked into before all others; None: ``TOPO_DATA`` if it is set, then downloads.
    limit
        Take a random subset of that many items, drawn with ``seed``; None for all.
    seed
        Seed of that draw. It does not move items between splits.

    Raises
    ------
    DataError
        The data set is not there (the message names the places and the command that fetches it), or is damaged.
    ValueError
        An unknown name or split, or a limit that is out of range.
    """
    if name not in REGISTRY:
        raise ValueError(f"name: wanted one of {', '.join(REGISTRY)}, got {name!r}")
    source = REGISTRY[name]
    if split not in source.splits:
        raise ValueError(f"split: wanted one of {', '.join(source.splits)} (the splits of '{name}'), got {split!r}")
    dataset = source.load(split, root)
    return dataset if limit is None else dataset.subset(limit, seed)
