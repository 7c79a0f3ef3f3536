"""Checks of what comes in: the messages name the argument, what came and what was wanted.

For this package and for those built on it (data sets, training, evaluation). Each check raises TypeError for what is of
another kind and ValueError for what is of the right kind but out of range. True and False are not taken for 1 and 0.
"""

from __future__ import annotations

import math
from numbers import Integral, Real

import numpy as np
import torch
from torch import Tensor

from topo_utils.topology._autograd import on_host


def check_cloud(name: str, x: Tensor) -> None:
    """Raise unless ``x`` is a floating tensor ``(*batch, n, d)`` of finite values with n >= 2 and d >= 1."""
    check_floating(name, x)
    if x.ndim < 2 or x.shape[-2] < 2 or x.shape[-1] < 1:
        raise ValueError(f"{name}: wanted the shape (*batch, n, d) with at least 2 points, got {tuple(x.shape)}")
    check_finite(name, x)


def check_single_cloud(name: str, x: Tensor) -> None:
    """Raise unless ``x`` is one such cloud, ``(n, d)``."""
    check_cloud(name, x)
    if x.ndim != 2:
        raise ValueError(f"{name}: wanted one cloud (n, d), got {tuple(x.shape)}")


def check_floating(name: str, x: Tensor) -> None:
    """Raise unless ``x`` is a float32 or float64 tensor."""
    check_dtype(name, x, torch.float32, torch.float64)


def check_dtype(name: str, x: Tensor, *dtypes: torch.dtype) -> None:
    """Raise unless ``x`` is a tensor of one of ``dtypes``."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: wanted a torch tensor, got {type(x).__name__}")
    if x.dtype not in dtypes:
        raise TypeError(f"{name}: wanted {' or '.join(str(t).removeprefix('torch.') for t in dtypes)}, got {x.dtype}")
    try:
        x.detach().data_ptr()
    except RuntimeError as error:  # persistence is computed outside of torch, which these cannot follow
        raise TypeError(
            f"{name}: wanted a tensor that holds its values, got one inside of torch.func or torch.compile; "
            "take backward() or torch.autograd.grad, and a batch of clouds in the place of vmap"
        ) from error


def checked(name: str, cloud: Tensor) -> Tensor:
    """A cloud that is not empty, in float32 or float64."""
    if isinstance(cloud, Tensor) and cloud.dtype in (torch.float16, torch.bfloat16):  # as autocast leaves them
        cloud = cloud.float()
    check_floating(name, cloud)
    if not cloud.numel():
        raise ValueError(f"{name}: wanted at least one cloud, got the shape {tuple(cloud.shape)}")
    return cloud


def check_finite(name: str, x: Tensor) -> None:
    """Raise unless every value of ``x`` is finite."""
    if math.isfinite(x.detach().sum().item()):  # then all values are; the other way round, a sum may overflow
        return
    bad = ~torch.isfinite(x.detach())
    if bad.any():
        where = tuple(bad.nonzero()[0].tolist())
        raise ValueError(f"{name}: wanted finite values, got {x[where].item()} at {where} ({int(bad.sum())} such values)")


def check_weights(name: str, weights: Tensor) -> np.ndarray:
    """Raise unless ``weights`` is ``(*batch, n, n)``, symmetric, non-negative, zero on the diagonal; +inf is no edge.

    Returns them on the host, all batch dimensions in one.
    """
    check_floating(name, weights)
    if weights.ndim < 2 or weights.shape[-1] != weights.shape[-2] or weights.shape[-1] < 2:
        raise ValueError(f"{name}: wanted the shape (*batch, n, n) with n >= 2, got {tuple(weights.shape)}")
    from topo_utils.topology import _weights  # here: numba takes a second to import

    values = on_host(weights)
    if not _weights.are_sound(values):
        _name_fault(name, weights.detach())
    return values


def _name_fault(name: str, values: Tensor) -> None:
    """Raise for what is wrong with weights first."""
    if values.isnan().any():
        raise ValueError(f"{name}: wanted numbers, got NaN at {tuple(values.isnan().nonzero()[0].tolist())}")
    if (values < 0).any():
        raise ValueError(f"{name}: wanted no negative edge weight, got {values.min().item()}")
    if values.diagonal(dim1=-2, dim2=-1).any():
        raise ValueError(f"{name}: wanted a zero diagonal, got {values.diagonal(dim1=-2, dim2=-1).abs().max().item()}")
    raise ValueError(f"{name}: wanted a symmetric matrix, got one that differs from its transpose")


def check_count(name: str, value: int, least: int = 1, below: int | None = None) -> None:
    """Raise unless ``value`` is a whole number, at least ``least`` and, where there is an upper end, less than that."""
    if not isinstance(value, Integral) or isinstance(value, bool):  # numpy's integers are whole numbers too
        raise TypeError(f"{name}: wanted a whole number, got {value!r}")
    if value < least or (below is not None and value >= below):
        wanted = f"at least {least}" if below is None else f"{least} <= {name} < {below}"
        raise ValueError(f"{name}: wanted {wanted}, got {value}")


def check_number(name: str, value: float, least: float = -math.inf) -> None:
    """Raise unless ``value`` is a finite number, at least ``least``."""
    _check_real(name, value)
    if not (math.isfinite(value) and value >= least):
        wanted = "a finite number" if least == -math.inf else f"a finite number >= {least:g}"
        raise ValueError(f"{name}: wanted {wanted}, got {value}")


def check_positive(name: str, value: float) -> None:
    """Raise unless ``value`` is a finite number above zero."""
    _check_real(name, value)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}: wanted a positive number, got {value}")


def check_option(name: str, value: object, allowed: tuple) -> None:
    """Raise unless ``value`` is one of ``allowed``: strings, whole numbers, True, False or None."""
    comparable = isinstance(value, str | Integral)  # not 1.0 for 1, nor an array
    if not any(
        value is option or (comparable and isinstance(value, bool) == isinstance(option, bool) and value == option)
        for option in allowed
    ):
        raise ValueError(f"{name}: wanted one of {', '.join(map(repr, allowed))}, got {value!r}")


def _check_real(name: str, value: float) -> None:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name}: wanted a number, got {value!r}")
