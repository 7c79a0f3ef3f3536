"""What our own autograd functions have in common."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


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
