"""What every loader gives, and what every domain knows of its items."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from topo_utils import paths, sealed
from topo_utils.seed import derive, generator
from topo_utils.topology import Diagram, cubical_persistence, pairwise_distances, persistent_homology, rips

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from matplotlib.axes import Axes

SPLITS = ("train", "validation", "test", "judge")


class DataError(RuntimeError):
    """A data set is missing or damaged. The message says what, where, and what to do."""


class Domain(ABC):
    """A kind of item, whatever data set it comes from: how it is drawn, and what topology one item has of its own.

    Attributes
    ----------
    name
        Its name in the table of architectures, :data:`topo_utils.models.networks.ARCHITECTURES`.
    label
        What the labels of its data sets mean; out-of-distribution splits go by them.
    filtration
        That of one item (the level ``sample``), a name that :class:`~topo_utils.topology.TopologicalLoss` knows; None where
        an item is a single point, so that only clouds of items have a shape (the level ``batch``).
    pixels
        Whether items are images (channels, height, width) with values in [0, 1].
    """

    name: ClassVar[str]
    label: ClassVar[str]
    filtration: ClassVar[str | None]
    pixels: ClassVar[bool] = False

    @abstractmethod
    def check(self, items: Tensor) -> str | None:
        """What is wrong with finite float32 ``items`` of at least one row, in the form "wanted ..., got ..."; or None."""

    @abstractmethod
    def draw(self, axes: Axes, item: Tensor) -> None:
        """Draw one item, without ticks."""

    def cloud(self, items: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """Items as ``filtration`` takes them: points, edge weights or grey values, one cloud an item; differentiable."""
        return items

    def made(self, items: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """What a model made of real numbers, in the range of the data: pixels are cut off at 0 and 1."""
        return items.clamp(0, 1) if self.pixels else items

    def diagrams(self, items: Float[Tensor, "batch ..."]) -> list[Diagram]:
        """H0 and H1 of each item by itself.

        Raises
        ------
        ValueError
            An item of this domain is a single point.
        """
        if self.filtration is None:
            raise ValueError(f"an item of the domain '{self.name}' is one point: only clouds of items have a diagram")
        clouds = self.cloud(items)
        if self.filtration in ("sublevel", "superlevel"):
            return cubical_persistence(clouds, sublevel=self.filtration == "sublevel")
        weights = rips(pairwise_distances(clouds)) if self.filtration == "rips" else clouds
        return persistent_homology(weights, essential="drop" if self.filtration == "rips" else "cap")

    def quality(self, samples: Float[Tensor, "m ..."], data: Dataset, train: Dataset) -> dict[str, float]:
        """Metrics of generated items that only this domain has, measured without a network; none here.

        Parameters
        ----------
        samples
            At least one, finite, on the CPU, of the shape of the data; probabilities are rounded as the domain says.
        data, train
            Real items of this domain to compare with, and those that the model was trained on.

        Returns
        -------
        dict
            By the names in :data:`topo_utils.metrics.METRICS`.
        """
        return {}

    def statistics(self, items: Float[Tensor, "n ..."]) -> dict[str, Float[Tensor, "n bins"]]:
        """Histograms of each item, by name, each with the sum 1; of generated items after rounding. None here.

        The evaluation compares those of samples with those of data, see
        :func:`~topo_utils.evaluation.statistics_distances`.
        """
        return {}

    def outliers(self, items: Float[Tensor, "n ..."], stream: torch.Generator) -> dict[str, Float[Tensor, "n ..."]]:
        """Items of this domain that the data do not have, by what was done to them to make them.

        ``shuffled``, in every domain: each value is that of another item, so that the distribution of each value is kept,
        and what ties them together is lost.
        """
        return {"shuffled": shuffled(items.flatten(1), stream).view_as(items)}

    def betti(self, items: Float[Tensor, "batch ..."]) -> Int[Tensor, "batch 2"]:
        """Betti numbers (β₀, β₁) of each item, at the threshold or in the sense that the domain documents.

        Raises
        ------
        NotImplementedError
            The domain has no threshold that all its items share.
        """
        raise NotImplementedError(
            f"an item of the domain '{self.name}' has no Betti number of its own: see its diagrams or clouds of items"
        )


@dataclass(frozen=True)
class Dataset:
    """One split of a data set, checked when it is made.

    Attributes
    ----------
    name, split
        Where the items come from.
    domain
        What kind of items they are.
    items
        What a model takes, ``(n, ...)``, float32, finite, in the form that the domain's module documents.
    labels
        ``(n,)``, int64; their meaning is ``domain.label``.
    properties
        What else is known of each item, by name, ``(n, ...)`` each.
    unit
        What 1.0 in ``items`` is in the original measure: ``items * unit`` undoes the normalisation.
    limit, seed
        Of the random subset that this is; None for a whole split.
    held_out
        Labels whose items were left out.
    """

    name: str
    split: str
    domain: Domain
    items: Tensor
    labels: Tensor
    properties: Mapping[str, Tensor] = field(default_factory=dict)
    unit: float = 1.0
    limit: int | None = None
    seed: int = 0
    held_out: tuple[int, ...] = ()

    def __post_init__(self):
        what = f"{self.name}/{self.split}"
        if self.items.dtype != torch.float32 or self.items.ndim < 2 or not self.items.numel():
            raise DataError(
                f"{what}: wanted float32 items of shape (n, ...) with n >= 1, "
                f"got {self.items.dtype} {tuple(self.items.shape)}"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.items.shape[:1]:
            raise DataError(
                f"{what}: wanted {len(self.items)} int64 labels, got {self.labels.dtype} {tuple(self.labels.shape)}"
            )
        for name, values in self.properties.items():
            if len(values) != len(self.items):
                raise DataError(f"{what}: wanted {len(self.items)} values of the property '{name}', got {len(values)}")
        if not all(map(torch.isfinite, self.items.aminmax())):  # without a mask of the size of the items
            bad = ~self.items.isfinite().flatten(1).all(1)
            first = int(bad.nonzero()[0])
            value = self.items[first][~self.items[first].isfinite()][0].item()
            raise DataError(f"{what}: wanted finite values, got {value} in item {first} ({int(bad.sum())} such items)")
        wrong = self.domain.check(self.items)
        if wrong:
            raise DataError(f"{what}: {wrong}")
        object.__setattr__(self, "properties", MappingProxyType(dict(self.properties)))

    def __len__(self) -> int:
        return len(self.items)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one item."""
        return tuple(self.items.shape[1:])

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that name the content: items, labels and properties, with their types and shapes."""
        arrays = {"items": self.items, "labels": self.labels, **{f"property {k}": v for k, v in self.properties.items()}}
        about = {"name": self.name, "split": self.split, "domain": self.domain.name, "unit": repr(self.unit)}
        return sealed.digest(arrays, about)[:16]

    def described(self) -> dict[str, str | int | list[int] | None]:
        """What a record of a run says of the data; :func:`load` gives them back, and the digest tells whether it did."""
        about = {
            "name": self.name,
            "split": self.split,
            "limit": self.limit,
            "seed": self.seed,
            "items": len(self),
            "digest": self.digest,
        }
        return about | ({"held_out": list(self.held_out)} if self.held_out else {})

    def betti(self, dimension: int) -> Int[Tensor, " n"]:
        """Betti number of each image: what is known of it, or what its domain counts.

        Raises
        ------
        ValueError
            The items are no images.
        """
        if not self.domain.pixels:
            raise ValueError(f"dataset: wanted images or masks, whose Betti numbers are known, got '{self.name}'")
        known = self.properties.get("betti")
        return (self.domain.betti(self.items) if known is None else known)[:, dimension]

    def take(self, chosen: Int[Tensor, " m"]) -> Dataset:
        """The items with these indices, or where this mask is true."""
        properties = {name: values[chosen] for name, values in self.properties.items()}
        return replace(self, items=self.items[chosen], labels=self.labels[chosen], properties=properties)

    def of_class(self, *labels: int) -> Dataset:
        """The items with one of these labels; raises ValueError when there is none of a label."""
        return self.take(self._labelled(labels))

    def without(self, *labels: int) -> Dataset:
        """The items with none of these labels, as if the others were not known; raises ValueError as :meth:`of_class`, and
        when nothing is left."""
        if not labels:
            return self
        kept = ~self._labelled(labels)
        if not kept.any():
            raise ValueError(f"held_out: wanted some label of {self.name}/{self.split} to be left, got all: {list(labels)}")
        return replace(self.take(kept), held_out=(*self.held_out, *labels))

    def _labelled(self, labels: tuple[int, ...]) -> Bool[Tensor, " n"]:
        there = self.labels.unique().tolist()
        if unknown := [label for label in labels if label not in there]:
            raise ValueError(f"held_out: wanted labels of {self.name}/{self.split}, {there}, got {unknown}")
        return torch.isin(self.labels, torch.tensor(labels))

    def subset(self, size: int, seed: int = 0) -> Dataset:
        """``size`` items drawn without replacement; raises ValueError when there are not so many."""
        if not 1 <= size <= len(self):
            raise ValueError(f"limit: wanted 1 to {len(self)} (the size of {self.name}/{self.split}), got {size}")
        chosen = self.take(torch.randperm(len(self), generator=generator(seed, "subset"))[:size])
        return replace(chosen, limit=size, seed=seed)


class Source(ABC):
    """Where a data set comes from.

    A source that can be downloaded has a method ``fetch() -> Path`` besides.

    Attributes
    ----------
    name
        Its name in the registry.
    domain
        The domain of its items.
    summary, licence
        One line each, for the list of data sets.
    splits
        Those of :data:`SPLITS` that it has.
    """

    name: str
    domain: Domain
    summary: str
    licence: str
    splits: tuple[str, ...] = SPLITS

    @abstractmethod
    def present(self, root: Path | None = None) -> bool:
        """Whether :meth:`load` would find its files."""

    @abstractmethod
    def load(self, split: str, root: Path | None = None) -> Dataset:
        """One split. ``root`` is looked into first, as :func:`topo_utils.paths.places` says."""

    def missing(self, files: str, how: str, root: Path | None = None, folder: str | None = None) -> DataError:
        """The error to raise when the files are nowhere: what, where it was looked for, and how to get it."""
        places = " nor in ".join(map(str, paths.places(folder or self.name, root)))
        return DataError(
            f"the data set '{self.name}' is not in {places}. {how}, or name a folder that holds {files} in TOPO_DATA"
        )


def shuffled(values: Float[Tensor, "n parts *rest"], stream: torch.Generator) -> Float[Tensor, "n parts *rest"]:
    """Each part of a row from another row, every row's part used once."""
    order = torch.rand(values.shape[:2], generator=stream).argsort(0)
    return values[order, torch.arange(values.shape[1])]


def share(indices: np.ndarray, sizes: Mapping[str, int], split: str) -> np.ndarray:
    """The share of ``split`` in a fixed random order of the indices; shares follow each other and cannot overlap."""
    order = np.random.default_rng(derive(0, "split")).permutation(len(indices))
    start = sum(size for name, size in list(sizes.items())[: list(sizes).index(split)])
    return indices[order[start : start + sizes[split]]]


def mixed(count: int) -> Tensor:
    """A fixed random order of so many items, so that any part of a split is mixed."""
    return torch.from_numpy(np.random.default_rng(derive(0, "order")).permutation(count))
