"""Loops compiled by numba."""

from __future__ import annotations

from collections.abc import Callable

from numba import njit


def compiled(function: Callable) -> Callable:
    """Compile, and keep the machine code for later processes where there is a place for it.

    In a read-only installation whose user has no home there is none; then each process compiles anew.
    """
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        return njit(nogil=True)(function)
