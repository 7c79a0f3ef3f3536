"""Every model trains on every domain, with the regulariser and without."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from topo_utils import datasets, evaluation
from topo_utils.config import DiffusionConfig, VAEConfig
from topo_utils.models.features import initial_autoencoder, unexplained
from topo_utils.training import fit

# what an untrained decoder makes is nearly all the same
pytestmark = pytest.mark.filterwarnings("ignore:most bars are shorter than the first step")

DOMAINS = {
    "images": "digits",
    "masks": "masks-28",
    "molecules": "nci",
    "proteins": "adk",
    "graphs": "social",
    "points": "torus",
}
SMALL = {"epochs": 6, "batch_size": 32, "cloud_size": 16, "width": 8, "learning_rate": 3.0e-3}


@pytest.fixture(scope="module", params=DOMAINS)
def domain(request, tmp_path_factory):
    """A domain's training and validation items, and its F."""
    name = DOMAINS[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOPO_HOME", str(tmp_path_factory.mktemp(name)))
        train, validation = datasets.load(name, "train"), datasets.load(name, "validation")
        train, validation = (data.subset(min(192, len(data))) for data in (train, validation))
        return train, validation, initial_autoencoder(train, dimension=6, epochs=50 if len(train) > 128 else 200)


@pytest.mark.filterwarnings("ignore:most bars end beyond the grid")  # so they do before a model has learned the scale
def test_vaes_train(domain):
    train, validation, features = domain
    gammas = {"gamma_latent": 1.0, "gamma_reconstruction": 1.0, "gamma_generated": 1.0}
    config = VAEConfig(dataset=train.name, latent_dimension=4, **gammas, **SMALL)
    trained = fit(config, train, validation, features, progress="none")
    model, history = trained.model, trained.history
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert np.isfinite(history).all(axis=None)
    metrics = evaluation.evaluate(model, validation, train, features, None)
    assert np.isfinite(list(metrics.values())).all()


@pytest.mark.filterwarnings("ignore:most bars end beyond the grid")
def test_diffusions_train(domain):
    train, validation, features = domain
    epochs = 40 if train.domain.name == "points" else 6  # what is cheap may take its time
    config = DiffusionConfig(dataset=train.name, gamma_denoised=1.0, topological_sigma=1.0, **SMALL | {"epochs": epochs})
    trained = fit(config, train, validation, features, progress="none")
    model, history = trained.model, trained.history
    assert history["validation_noise"].iloc[-1] < history["validation_noise"].iloc[0]
    assert np.isfinite(history).all(axis=None)
    assert evaluation.sample(model, 4).shape == (4, *train.shape)


def test_the_topology_of_single_items_enters(domain):
    train, validation, features = domain
    config = VAEConfig(dataset=train.name, gamma_sample=1.0, **SMALL | {"epochs": 1, "cloud_size": 8})
    if train.domain.filtration is None:
        with pytest.raises(ValueError, match="gamma_sample: wanted 0 for 'torus', whose items are single points"):
            fit(config, train, validation, features, progress="none")
    else:
        history = fit(config, train, validation, features, progress="none").history
        assert history["topological_sample"].iloc[0] > 0
        assert history["gradient_topological"].iloc[0] > 0


def test_features_have_unit_distance_and_reproduce_something(domain):
    train, _, features = domain
    assert torch.pdist(features.features(train.items)).mean().item() == pytest.approx(1, abs=0.05)
    assert unexplained(features, train.items) < 1
