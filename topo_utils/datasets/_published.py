"""Data sets whose publisher states no checksum: what is verified is the content."""

from __future__ import annotations

import hashlib
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from topo_utils import paths
from topo_utils.datasets._dataset import DataError, Source
from topo_utils.datasets._files import download, find


class Published(Source):
    """A data set without a published checksum: what is verified is its content, by a SHA-256 of the numbers in it.

    It lies in the folder of its domain's name, in one ``.npz`` file with the arrays that :meth:`tidy` reads.

    Attributes
    ----------
    file
        Name of that file.
    urls
        The publisher's files.
    sha256
        Of the tidy arrays, see :func:`content_sha256`.
    """

    file: str
    urls: tuple[str, ...]
    sha256: str

    @abstractmethod
    def tidy(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The arrays that are used, with nothing repeated and in a fixed order."""

    @abstractmethod
    def parse(self, *files: Path) -> dict[str, np.ndarray]:
        """The arrays in the publisher's files, which are read in place: nothing is unpacked."""

    def present(self, root: Path | None = None) -> bool:
        return find(self.domain.name, [self.file], root) is not None

    def arrays(self, root: Path | None = None) -> dict[str, np.ndarray]:
        """The tidy arrays, verified.

        Raises
        ------
        DataError
            The file is nowhere, or is damaged.
        """
        folder = find(self.domain.name, [self.file], root)
        if folder is None:
            how = f"Get it with `python -m topo_utils.datasets fetch {self.name}`"
            raise self.missing(f"{self.domain.name}/{self.file}", how, root, self.domain.name)
        return self._read(folder / self.file)

    def fetch(self) -> Path:
        """Download the publisher's files and keep their content, verified, as one file that appears whole or not at all.

        Raises
        ------
        DataError
            They could not be downloaded, or do not hold this data set.
        """
        folder = paths.raw() / self.domain.name
        with suppress(DataError):  # it is missing or damaged: get it anew
            self._read(folder / self.file)
            return folder
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
            files = [download([url], url.rsplit("/", 1)[-1], Path(scratch)) for url in self.urls]
            remedy = "Try again; if that does not help, the publisher has changed the files"
            arrays = self._verified(lambda: self.parse(*files), " and ".join(self.urls), remedy)
        with paths.atomic(folder / self.file) as whole:
            np.savez_compressed(whole, **arrays)
        return folder

    def _read(self, file: Path) -> dict[str, np.ndarray]:
        def read() -> dict[str, np.ndarray]:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                return dict(stored)

        how = f"Replace it, or unset TOPO_DATA and get it anew with `python -m topo_utils.datasets fetch {self.name}`"
        return self._verified(read, str(file), how)

    def _verified(self, read: Callable[[], Mapping[str, np.ndarray]], what: str, remedy: str) -> dict[str, np.ndarray]:
        """The tidy form of the arrays that ``read`` gives."""
        try:
            arrays = self.tidy(read())
            found = content_sha256(arrays)
        except Exception as error:  # a damaged file can make its reader fail in any way
            reason = f"{type(error).__name__}: {error}"
            raise DataError(f"{what}: cannot be read as the data set '{self.name}' ({reason}). {remedy}") from error
        if found != self.sha256:
            wanted = f"the data set '{self.name}', the SHA-256 of whose content is {self.sha256}"
            raise DataError(f"{what}: wanted {wanted}, got {found}. {remedy}")
        return arrays


def content_sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of arrays of whole numbers, in the order of their names: name, shape, and values as little-endian int64."""
    content = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name], dtype="<i8")
        content.update(f"{name} {values.shape}\n".encode())
        content.update(values.tobytes())
    return content.hexdigest()
