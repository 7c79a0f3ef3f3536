"""Arrays on disk whose content is known to be what was written: a safetensors file that carries a digest of itself.

A flipped bit in a weight, a shape or a name would otherwise be believed: the file still loads, and every number that
follows from it is wrong without a word.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from topo_utils import paths

SEAL = "sha256"


class DamagedError(RuntimeError):
    """A file is missing a part of its content, or has another content than was written. The message names it."""


def digest(arrays: Mapping[str, Tensor | np.ndarray], metadata: Mapping[str, str] | None = None) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names, and over the metadata; 64 digits."""
    content = hashlib.sha256(json.dumps(dict(metadata or {}), sort_keys=True).encode())
    for name in sorted(arrays):
        tensor = _tensor(arrays[name])
        content.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        content.update(tensor.flatten().view(torch.uint8).numpy())
    return content.hexdigest()


def write(
    file: Path,
    arrays: Mapping[str, Tensor | np.ndarray],
    metadata: Mapping[str, str] | None = None,
    finite: bool = True,
) -> str:
    """Write arrays and metadata with their seal, whole or not at all; returns the digest.

    Raises
    ------
    ValueError
        A floating value is not finite, though all should be: whoever reads the file could only get a wrong number.
    """
    tensors = {name: _tensor(array) for name, array in arrays.items()}
    for name, tensor in tensors.items():
        if finite and tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{file.name}: wanted finite values, got NaN or infinity in '{name}'")
    seal = digest(tensors, metadata)
    with paths.atomic(file) as scratch:
        scratch.write_bytes(save(tensors, {**(metadata or {}), SEAL: seal}))
    return seal


def read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Arrays and metadata of a sealed file.

    Raises
    ------
    DamagedError
        It cannot be read, has no seal, or its content is not what was written.
    OSError
        It is not there, is a folder, or may not be read.
    """
    file = Path(file)
    if file.is_dir():
        raise IsADirectoryError(f"'{file}' is a folder: wanted a file of arrays")
    with file.open("rb"):  # a missing file is told from a damaged one
        pass
    try:
        with safe_open(file, "pt") as content:
            arrays = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
            metadata = dict(content.metadata() or {})
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise DamagedError(f"'{file}' is damaged ({error})") from None
    seal = metadata.pop(SEAL, None)
    if seal is None:
        raise DamagedError(f"'{file}' has no seal: it was not written by this project, or by an older version of it")
    if seal != digest(arrays, metadata):
        raise DamagedError(f"'{file}' is damaged: its content is not what was written")
    return arrays, metadata


def _tensor(array: Tensor | np.ndarray) -> Tensor:
    """On the CPU, in one piece."""
    return (
        array.detach().cpu() if isinstance(array, Tensor) else torch.from_numpy(np.ascontiguousarray(array))
    ).contiguous()
