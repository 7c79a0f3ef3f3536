"""Files of data sets: found, verified, downloaded whole or not at all."""

from __future__ import annotations

import inspect
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from http.client import HTTPException
from pathlib import Path
from types import ModuleType

import numpy as np
from torchvision.datasets.utils import check_integrity, download_url

from topo_utils import paths, sealed
from topo_utils.datasets._dataset import DataError


def find(folder: str, files: Iterable[str], root: Path | None = None) -> Path | None:
    """First place of a data set's folder that holds any of the files; None when there is none."""
    files = list(files)
    return next((place for place in paths.places(folder, root) if any((place / file).exists() for file in files)), None)


def verified(file: Path, md5: str, remedy: str) -> Path:
    """The file itself, after its MD5 was verified.

    Raises
    ------
    DataError
        It is missing or has another content; the message ends with the remedy.
    """
    if not file.is_file():
        raise DataError(f"{file.parent} holds a part of the data set, but {file.name} is missing. {remedy}")
    if not check_integrity(str(file), md5):
        raise DataError(f"{file} is damaged: {file.stat().st_size} bytes whose MD5 is not {md5}. {remedy}")
    return file


def read_npz(file: Path, md5: str, remedy: str) -> dict[str, np.ndarray]:
    """All arrays of a verified ``.npz`` file; nothing in it is unpickled."""
    with np.load(verified(file, md5, remedy), allow_pickle=False) as arrays:
        return dict(arrays)


def cached(name: str, convert: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What ``convert`` gives: the first time written under this name to :func:`paths.processed`, later read from there.

    A damaged file is reported and made again. The name has to cover all that decides the content.

    Raises
    ------
    OSError
        It cannot be read or written; a folder of that name is there, say.
    """
    file = paths.processed() / f"{name}.safetensors"
    if file.exists():
        try:
            return {array: values.numpy() for array, values in sealed.read(file)[0].items()}
        except sealed.DamagedError as error:
            print(f"{error}: the cache is made again", file=sys.stderr)
    arrays = convert()
    sealed.write(file, arrays, finite=False)  # what is missing in a source may be NaN
    return arrays


def code(*parts: ModuleType | Callable) -> str:
    """The text of modules, for the name of a cache whose content they decide; a class or function stands for its module."""
    return "".join(Path(inspect.getfile(part)).read_text() for part in parts)


def download(urls: Iterable[str], name: str, folder: Path, md5: str | None = None) -> Path:
    """Download one file from the first of its addresses that gives it, with a progress bar.

    It appears in the folder under its name whole and verified, by one rename, or not at all: a part left by a failure is
    removed, and fetches at the same time do not disturb each other. A file that is there and verified is not fetched again.

    Parameters
    ----------
    md5
        Checksum; None for sources that publish none, whose content the caller then has to verify itself.

    Raises
    ------
    DataError
        No address gave it; the message holds what each of them said.
    """
    if md5 is not None and check_integrity(str(folder / name), md5):
        return folder / name
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for url in urls:
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
            try:
                download_url(url, scratch, name, md5)
            except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: torchvision's word for a wrong checksum
                failures.append(f"{url}: {error}")
                continue
            os.replace(Path(scratch) / name, folder / name)
            return folder / name
    raise DataError(f"could not download {name} ({'; '.join(failures)})")
