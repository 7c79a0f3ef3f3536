"""Where things lie, independent of the folder that a notebook happens to run in.

Two environment variables move them: ``TOPO_DATA`` names a folder with data sets that are already there (it is only read),
``TOPO_HOME`` a folder for everything that is written. Its default is the ``data`` folder of a checkout, and the user's own
data folder where the package is installed without one.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import platformdirs

REPOSITORY = Path(__file__).resolve().parents[1]
NOTEBOOKS = REPOSITORY / "notebooks"
RESULTS = REPOSITORY / "data" / "results"


def is_checkout() -> bool:
    """Whether the package lies in a checkout of this project, beside its notebooks, and not among installed packages."""
    project = REPOSITORY / "pyproject.toml"
    return project.is_file() and re.search(r'^name = "topo_utils"$', project.read_text(), re.MULTILINE) is not None


def home() -> Path:
    """Folder for everything that is written: downloads, caches and run records."""
    if given := os.environ.get("TOPO_HOME"):
        return Path(given).expanduser().resolve()
    return REPOSITORY / "data" if is_checkout() else platformdirs.user_data_path("topo_utils")


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
    return [*(Path(folder).expanduser().resolve() / dataset for folder in given if folder), raw() / dataset]


@contextmanager
def atomic(path: Path):
    """Yield a scratch path beside ``path`` that becomes ``path`` by one rename when the block ends without an error.

    A reader therefore sees the old file or the whole new one, never a part.

    Raises
    ------
    OSError
        It cannot be written, a full disk say; the error names the file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
            scratch = Path(folder) / path.name
            yield scratch
            os.replace(scratch, path)
    except OSError as error:
        if error.filename is None:  # a write says what went wrong, and not where
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
