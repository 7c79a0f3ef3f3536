"""Where things lie, independent of the folder that a notebook happens to run in.

Two environment variables move them: ``TOPO_DATA`` names a folder with data sets that are already there (it is only read),
``TOPO_HOME`` a folder for everything that is written (default: the repository's ``data``).
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

REPOSITORY = Path(__file__).resolve().parents[1]
NOTEBOOKS = REPOSITORY / "notebooks"
RESULTS = REPOSITORY / "data" / "results"


def home() -> Path:
    """Folder for everything that is written: downloads, caches and run records."""
    return Path(os.environ.get("TOPO_HOME") or REPOSITORY / "data").resolve()


def raw() -> Path:
    """Folder of downloaded originals."""
    return home() / "raw"


def processed() -> Path:
    """Folder of caches that can be made again: converted data, trained feature networks."""
    return home() / "processed"


def runs() -> Path:
    """Folder of run records, one folder a run."""
    return home() / "runs"


def places(dataset: str, root: Path | None = None) -> list[Path]:
    """Folders in which a data set is looked for, in this order: in ``root``, in ``TOPO_DATA``, in :func:`raw`."""
    given = [root, os.environ.get("TOPO_DATA")]
    return [*(Path(folder).resolve() / dataset for folder in given if folder), raw() / dataset]


@contextmanager
def atomic(path: Path):
    """Yield a scratch path beside ``path`` that becomes ``path`` by one rename when the block ends without an error.

    A reader therefore sees the old file or the whole new one, never a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        scratch = Path(folder) / path.name
        yield scratch
        os.replace(scratch, path)
