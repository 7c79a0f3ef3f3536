"""Shared fixtures. Everything that a test writes goes to a scratch folder; no test has a time limit."""

from __future__ import annotations

import matplotlib
import pytest
import torch
from hypothesis import HealthCheck, settings

from topo_utils import datasets, paths
from topo_utils.models.features import initial_autoencoder

matplotlib.use("Agg")

# a busy machine is no fault of the code, and what hypothesis finds can be tried again from the log
settings.register_profile("patient", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A scratch TOPO_HOME, and no TOPO_DATA; returns its path."""
    monkeypatch.setenv("TOPO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TOPO_DATA", raising=False)
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def no_left_over_randomness():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def digits():
    """Two hundred training digits and one hundred for validation."""
    return datasets.load("digits", "train", limit=200), datasets.load("digits", "validation", limit=100)


@pytest.fixture(scope="session")
def features(digits, tmp_path_factory):
    """F, trained for one epoch on these digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOPO_HOME", str(tmp_path_factory.mktemp("features")))
        return initial_autoencoder(digits[0], epochs=1)


@pytest.fixture
def shared_data(monkeypatch):
    """The real data sets beside the checkout, as TOPO_DATA; skips where they are not."""
    folder = paths.REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no folder of real data beside this checkout")
    monkeypatch.setenv("TOPO_DATA", str(folder))
    return folder
