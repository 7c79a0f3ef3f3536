"""Data sets by name: ``load("digits", "train")``.

Each loader gives the same thing: items as one tensor, labels and properties, a fixed split, and the domain, which knows how
an item is drawn and what topology it has. Splits never overlap: ``train`` fits models, ``validation`` chooses between them,
``test`` is used once, and ``judge`` trains the independent classifier that judges generated samples.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from topo_utils.datasets import graphs, images, masks, molecules, proteins, shapes
from topo_utils.datasets._dataset import SPLITS, DataError, Dataset, Domain, Source
from topo_utils.topology.checks import check_count, check_floating, check_option

REGISTRY: dict[str, Source] = {
    source.name: source for module in (images, molecules, proteins, graphs, shapes, masks) for source in module.SOURCES
}

#: Of each kind of items one, for one's own data; of points one that knows no manifold.
DOMAINS: dict[str, Domain] = {source.domain.name: source.domain for source in REGISTRY.values()} | {
    shapes.Points.name: shapes.Points()
}

__all__ = ["DOMAINS", "REGISTRY", "SPLITS", "DataError", "Dataset", "Domain", "Source", "from_tensors", "load"]


def load(
    name: str,
    split: str,
    *,
    root: str | os.PathLike | None = None,
    limit: int | None = None,
    seed: int = 0,
    held_out: Sequence[int] = (),
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
        Take a random subset of at most so many items, drawn with ``seed``; None for all.
    seed
        Seed of that draw. It does not move items between splits.
    held_out
        Leave items with these labels out, before that draw: what is trained on the rest never saw them.

    Raises
    ------
    DataError
        The data set is not there (the message names the places and the command that fetches it), or is damaged.
    ValueError
        An unknown name, split or label, all labels left out, or a limit below 1.
    TypeError
        A limit that is no whole number.
    """
    if name not in REGISTRY:
        raise ValueError(f"name: wanted one of {', '.join(REGISTRY)}, got {name!r}")
    source = REGISTRY[name]
    if split not in source.splits:
        raise ValueError(f"split: wanted one of {', '.join(source.splits)} (the splits of '{name}'), got {split!r}")
    if limit is not None:
        check_count("limit", limit)
    dataset = source.load(split, root).without(*held_out)
    return dataset if limit is None or limit >= len(dataset) else dataset.subset(limit, seed)


def from_tensors(
    items: Tensor,
    domain: str | Domain,
    labels: Tensor | None = None,
    *,
    name: str = "mine",
    split: str = "train",
    properties: Mapping[str, Tensor] | None = None,
    unit: float = 1.0,
) -> Dataset:
    """One's own data as a data set: it can be trained on, evaluated and drawn as any other.

    Parameters
    ----------
    items
        ``(n, ...)``, floating, finite, in the form that the domain's module documents: images ``(n, 1 or 3, h, w)`` in
        [0, 1], points ``(n, d)``, and so on. Kept in float32.
    domain
        A name in :data:`DOMAINS`, or a domain of one's own.
    labels
        Classes ``(n,)``, int64; None: all 0.
    name
        Of the data set; not one that is taken in :data:`REGISTRY`.
    split
        One of :data:`SPLITS`. That the splits do not overlap is for the caller to see to.
    properties, unit
        See :class:`Dataset`.

    Raises
    ------
    TypeError, ValueError
        Items that are no floating tensor, or an argument out of range.
    DataError
        The items are not what the domain documents; the message says what came.
    """
    check_floating("items", items)
    check_option("split", split, SPLITS)
    if name in REGISTRY:
        raise ValueError(f"name: wanted one that is not taken, got '{name}', which is a data set of this project")
    if isinstance(domain, str):
        check_option("domain", domain, tuple(DOMAINS))
        domain = DOMAINS[domain]
    labels = torch.zeros(len(items), dtype=torch.int64) if labels is None else labels
    return Dataset(name, split, domain, items.detach().cpu().float(), labels, properties or {}, unit)
