from __future__ import annotations

import pytest

from topo_utils.config import ConfigError, RunConfig


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"gama": 1.0}, "unknown parameter 'gama'; the known ones are dataset, limit, seed"),
        ({"gamma": "high"}, "parameter 'gamma': wanted a valid number, got 'high'"),
        ({"learning_rate": "1e-3"}, r"got '1e-3' \(YAML reads 1e-3 and 1.0e6 as text: write 1.0e-3"),
        ({"batch_size": 0}, "parameter 'batch_size': wanted greater than or equal to 2, got 0"),
        ({"epochs": 2.5}, "parameter 'epochs': wanted a valid integer, got 2.5"),
        ({"epochs": True}, "parameter 'epochs'"),
        ({"gamma": float("nan")}, "parameter 'gamma'"),
        ({"gamma": -1.0}, "parameter 'gamma'"),
        ({"dataset": "minst"}, "parameter 'dataset': wanted 'digits' or 'mnist', got 'minst'"),
        ({"comparison": None}, "parameter 'comparison'"),
        ({"seed": -1}, "parameter 'seed'"),
        ({"gamma": 1.0, "cloud_size": 200}, r"parameter 'cloud_size': wanted at most batch_size \(128\), got 200"),
    ],
)
def test_mistakes_are_named(parameters, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig(**parameters)


def test_all_mistakes_are_named_at_once():
    with pytest.raises(ConfigError, match=r"gamma.*; .*batch_size"):
        RunConfig(gamma="high", batch_size=0)


def test_replace_checks_too_and_leaves_the_original():
    config = RunConfig()
    assert config.replace(gamma=2.0).gamma == 2
    assert config.gamma == 0
    with pytest.raises(ConfigError, match="unknown parameter 'gama'"):
        config.replace(gama=2.0)


def test_the_digest_names_the_values():
    assert RunConfig(gamma=1).digest() == RunConfig(gamma=1.0).digest()
    assert RunConfig(gamma=1.0).digest() != RunConfig(gamma=2.0).digest()


@pytest.mark.parametrize(
    ("parameters", "model"),
    [({}, "vae"), ({"beta": 4.0}, "beta-vae"), ({"gamma": 1.0}, "topovae"), ({"gamma": 1.0, "beta": 2.0}, "topovae")],
)
def test_the_weights_name_the_model(parameters, model):
    assert RunConfig(**parameters).model == model
