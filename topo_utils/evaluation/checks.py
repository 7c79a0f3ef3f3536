"""Checks of what is evaluated, before anything is computed; the messages name the argument, what came, what was wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from topo_utils.topology.checks import check_finite, check_floating

if TYPE_CHECKING:
    from topo_utils.datasets import Dataset


def check_items(name: str, items: Tensor, shape: tuple[int, ...], least: int = 1) -> None:
    """Raise unless ``items`` are finite float32 items ``(n, *shape)`` with n >= least."""
    check_floating(name, items)
    if items.dtype != torch.float32:
        raise TypeError(f"{name}: wanted float32, got {items.dtype}")
    if tuple(items.shape[1:]) != shape or len(items) < least:
        wanted = ", ".join(map(str, ("n", *shape)))
        raise ValueError(f"{name}: wanted the shape ({wanted}) with n >= {least}, got {tuple(items.shape)}")
    check_finite(name, items)


def check_same_kind(data: Dataset, train: Dataset) -> None:
    """Raise unless the items of both have the same domain, shape and unit."""
    here, there = ((each.domain.name, each.shape, each.unit) for each in (data, train))
    if here != there:
        raise ValueError(
            "train: wanted items as those of data (domain {}, shape {}, unit {}), got {}, {}, {}".format(*here, *there)
        )


def check_features(real: Tensor, generated: Tensor, least: int = 2) -> None:
    """Raise unless both are finite floating features ``(n, d)`` with the same d >= 1 and n >= least."""
    for name, features in (("real", real), ("generated", generated)):
        check_floating(name, features)
        if features.ndim != 2 or len(features) < least or not features.shape[1] or features.shape[-1] != real.shape[-1]:
            wanted = f"at least {least} rows of {real.shape[-1] or 'some'} features"
            raise ValueError(f"{name}: wanted {wanted}, got the shape {tuple(features.shape)}")
        check_finite(name, features)
