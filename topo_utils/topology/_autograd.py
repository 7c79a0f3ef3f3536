"""What our own autograd functions have in common: their compiled loops take arrays with one batch dimension."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor


def on_host(x: Tensor) -> np.ndarray:
    """The matrices ``(*batch, m, n)`` on the host, all batch dimensions in one."""
    return x.detach().reshape(math.prod(x.shape[:-2]), *x.shape[-2:]).contiguous().cpu().numpy()


class _Once(torch.autograd.Function):
    """A gradient as it is; whoever asks for *its* gradient, in whatever way, gets an error, not one that lacks a term."""

    @staticmethod
    def forward(ctx, result: Tensor, *origins: Tensor) -> Tensor:
        return result.view_as(result)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Any:
        raise RuntimeError(
            "wanted a first derivative: the gradient of persistence is computed in compiled loops and has no derivative of "
            "its own; leave out create_graph=True, Hessians and the like"
        )


def differentiable_once(backward: Callable) -> Callable:
    """A backward pass in compiled loops, whose result may not be differentiated again.

    The function has to save its differentiable inputs by ``ctx.save_for_backward``.
    """

    @wraps(backward)
    def checked(ctx, *gradients: Tensor) -> Any:
        with torch.no_grad():
            found = backward(ctx, *gradients)
        if not torch.is_grad_enabled():  # nobody asked for create_graph=True
            return found
        origins = [each for each in (*gradients, *ctx.saved_tensors) if each is not None and each.requires_grad]
        results = found if isinstance(found, tuple) else (found,)
        guarded = tuple(None if each is None else _Once.apply(each, *origins) for each in results)
        return guarded if isinstance(found, tuple) else guarded[0]

    return checked
