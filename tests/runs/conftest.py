"""Small notebooks to run."""

from __future__ import annotations

import pytest

from .notebooks import PARAMETERS, QUICK, TRAINING, write


@pytest.fixture
def notebook(tmp_path):
    """A small training notebook."""
    return write(tmp_path / "small.ipynb", PARAMETERS, TRAINING)


@pytest.fixture
def quick(tmp_path):
    """A notebook that only writes one row, without importing anything that is slow to import."""
    return write(tmp_path / "quick.ipynb", *QUICK)
