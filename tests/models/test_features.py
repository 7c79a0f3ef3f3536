from __future__ import annotations

import pytest
import torch

from topo_utils import datasets, paths
from topo_utils.models.features import initial_autoencoder, judge


def test_distances_of_features_have_unit_mean(digits, features):
    x = features.features(digits[0].items)
    assert torch.pdist(x).mean().item() == pytest.approx(1, abs=0.05)
    assert features.reconstruct(digits[0].items[:3]).shape == (3, 1, 28, 28)
    assert not any(parameter.requires_grad for parameter in features.parameters())


def test_the_cache_gives_the_same_weights_and_leaves_randomness_alone(digits):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    trained = initial_autoencoder(digits[0], epochs=1)
    assert torch.equal(torch.rand(1), expected)
    assert len(list(paths.processed().glob("*.safetensors"))) == 1
    cached = initial_autoencoder(digits[0], epochs=1)
    for one, other in zip(trained.state_dict().values(), cached.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_other_data_or_settings_make_another_network(digits):
    initial_autoencoder(digits[0], epochs=1)
    initial_autoencoder(digits[1], epochs=1)
    initial_autoencoder(digits[0], epochs=1, seed=1)
    assert len(list(paths.processed().glob("*.safetensors"))) == 3


def test_a_damaged_cache_is_reported_and_made_again(digits, capsys):
    before = initial_autoencoder(digits[0], epochs=1)
    (file,) = paths.processed().glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    after = initial_autoencoder(digits[0], epochs=1)
    printed = capsys.readouterr().err
    assert f"trained again: '{file}' is damaged" in printed
    assert torch.equal(before.encoder[0].weight, after.encoder[0].weight)


def test_the_judge_learns_and_never_sees_other_splits():
    data = datasets.load("digits", "judge")
    classifier = judge(data, epochs=6)
    test = datasets.load("digits", "test")
    assert (classifier(test.items).argmax(1) == test.labels).float().mean() > 0.6
    with pytest.raises(ValueError, match="wanted the split 'judge', got 'test'"):
        judge(test)
