"""Data sets by name: ``load("digits", "train")``.

Each loader gives the same thing: items as one tensor, labels, and a fixed split. Splits never overlap: ``train`` fits
models, ``validation`` chooses between them, ``test`` is used once, and ``judge`` trains the independent classifier that
judges generated samples.
"""

from topo_utils.datasets._dataset import SPLITS, DataError, Dataset
from topo_utils.datasets.images import Digits, Mnist

REGISTRY = {source.name: source for source in (Digits(), Mnist())}

__all__ = ["REGISTRY", "SPLITS", "DataError", "Dataset", "load"]


def load(name: str, split: str, *, limit: int | None = None, seed: int = 0) -> Dataset:
    """Load one split of a data set.

    Parameters
    ----------
    name
        A name in :data:`REGISTRY`.
    split
        One of :data:`SPLITS`.
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
    if split not in SPLITS:
        raise ValueError(f"split: wanted one of {', '.join(SPLITS)}, got {split!r}")
    dataset = REGISTRY[name].load(split)
    return dataset if limit is None else dataset.subset(limit, seed)
