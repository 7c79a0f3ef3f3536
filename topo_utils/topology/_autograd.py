"""What our own autograd functions have in common: their compiled loops take arrays with one batch dimension."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def on_host(x: Tensor) -> np.ndarray:
    """The matrices ``(*batch, m, n)`` on the host, all batch dimensions in one."""
    return x.detach().reshape(math.prod(x.shape[:-2]), *x.shape[-2:]).contiguous().cpu().numpy()


def differentiable_once(backward: Callable) -> Callable:
    """A backward pass in compiled loops has no derivative: to ask for one is an error, not a gradient that lacks a term.

    :func:`once_differentiable` says so only where the incoming gradient has itself a graph.
    """
    constant = once_differentiable(backward)

    @wraps(backward)
    def checked(ctx, gradient: Tensor) -> Tensor | tuple:
        if torch.is_grad_enabled() and not gradient.requires_grad:  # create_graph=True
            gradient = gradient.detach().requires_grad_()
        return constant(ctx, gradient)

    return checked
