from __future__ import annotations

import pytest

from topo_utils.config import ConfigError, VAEConfig


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"gama": 1.0}, "unknown parameter 'gama'; the known ones are dataset, limit, seed"),
        ({"gamma_latent": "high"}, "parameter 'gamma_latent': wanted a valid number, got 'high'"),
        ({"learning_rate": "1e-3"}, r"got '1e-3' \(YAML reads 1e-3 and 1.0e6 as text: write 1.0e-3"),
        ({"batch_size": 0}, "parameter 'batch_size': wanted greater than or equal to 2, got 0"),
        ({"epochs": 2.5}, "parameter 'epochs': wanted a valid integer, got 2.5"),
        ({"epochs": True}, "parameter 'epochs'"),
        ({"gamma_latent": float("nan")}, "parameter 'gamma_latent'"),
        ({"gamma_latent": -1.0}, "parameter 'gamma_latent'"),
        ({"dataset": "minst"}, "parameter 'dataset': wanted one of digits, mnist, .*, got 'minst'"),
        ({"representation": None}, "parameter 'representation'"),
        ({"seed": -1}, "parameter 'seed'"),
        ({"k": 3}, "parameter 'k': wanted a number with filtration 'knn' and only then, got 3"),
        ({"filtration": "knn", "k": 64}, r"parameter 'k': wanted less than cloud_size \(64\), got 64"),
        ({"h0_weight": 0.0, "h1_weight": 0.0}, "wanted one of them above 0"),
        ({"representation": "image", "levels": 3}, "parameter 'levels': wanted None"),
        (
            {"regularizer": "energy", "gamma_latent": 1.0},
            "wanted 0 with regularizer 'energy', which compares dist",
        ),
        ({"regularizer": "distances", "gamma_generated": 1.0}, "which matches point by point"),
        ({"regularizer": "shuffled", "gamma_sample": 1.0}, "parameter 'gamma_sample': wanted 0"),
        ({"gamma_latent": 1.0, "cloud_size": 200}, r"parameter 'cloud_size': wanted at most batch_size \(128\), got 200"),
    ],
)
def test_mistakes_are_named(parameters, message):
    with pytest.raises(ConfigError, match=message):
        VAEConfig(**parameters)


def test_all_mistakes_are_named_at_once():
    with pytest.raises(ConfigError, match=r"batch_size.*; .*gamma_latent"):
        VAEConfig(gamma_latent="high", batch_size=0)


def test_replace_checks_too_and_leaves_the_original():
    config = VAEConfig()
    assert config.replace(gamma_latent=2.0).gamma_latent == 2
    assert config.gamma_latent == 0
    with pytest.raises(ConfigError, match="unknown parameter 'gama'"):
        config.replace(gama=2.0)


def test_the_digest_names_the_values():
    assert VAEConfig(gamma_latent=1).digest() == VAEConfig(gamma_latent=1.0).digest()
    assert VAEConfig(gamma_latent=1.0).digest() != VAEConfig(gamma_latent=2.0).digest()


@pytest.mark.parametrize(
    ("parameters", "model"),
    [
        ({}, "vae"),
        ({"beta": 4.0}, "beta-vae"),
        ({"gamma_latent": 1.0}, "topovae"),
        ({"gamma_latent": 1.0, "beta": 2.0}, "topovae"),
    ],
)
def test_the_weights_name_the_model(parameters, model):
    assert VAEConfig(**parameters).model == model
