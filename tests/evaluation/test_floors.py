"""Models whose scores are known beforehand."""

from __future__ import annotations

import pytest
import torch

from topo_utils import datasets, evaluation
from topo_utils.evaluation.floors import InPlaceOfVAE, perfect_samples, two_halves
from topo_utils.models.features import Identity, initial_autoencoder


def test_perfect_samples_are_training_items_and_score_the_floor():
    train, test = datasets.load("torus", "train", limit=900), datasets.load("torus", "test").subset(400)
    samples = perfect_samples(train, 400, 2)
    assert all((train.items == each).all(1).any() for each in samples[:5])
    assert not torch.equal(samples, perfect_samples(train, 400, 3))
    found = evaluation.evaluate_samples(samples, test, train, initial_autoencoder(train), None)
    for name in ("bottleneck_h0", "wasserstein1_h1", "wasserstein2_h0"):
        error = found[f"{name}_standard_error"] + found[f"{name}_floor_standard_error"]
        assert abs(found[name] - found[f"{name}_floor"]) < 4 * error
    with pytest.raises(ValueError, match="limit: wanted 1 to 900"):
        perfect_samples(train, 901)


def test_the_features_of_points_in_the_place_of_a_vae_are_a_model_without_an_error():
    train, test = datasets.load("torus", "train", limit=300), datasets.load("torus", "test").subset(60)
    features = initial_autoencoder(train)
    model = InPlaceOfVAE(features, train)
    torch.testing.assert_close(model.reconstruct(test.items), test.items)
    assert features.scale > 1.01 or features.scale < 0.99
    found = evaluation.evaluate(model, test, train, features, None)
    assert found["reconstruction_error"] == pytest.approx(0, abs=1e-9)
    assert found["off_manifold"] < 0.2
    assert evaluation.latent_quality(model, test, train)["trustworthiness"] == 1
    paths = evaluation.interpolation_quality(model, test, train, features)
    assert paths["path_length_ratio"] == pytest.approx(1, abs=1e-3)
    sets = test.domain.outliers(test.items, torch.Generator().manual_seed(0))
    areas = evaluation.ood_detection(model, train, test, test, sets, features)
    for name in sets:
        assert areas[f"ood_auroc_knn_{name}"] == pytest.approx(areas[f"ood_auroc_features_knn_{name}"])


def test_f_in_the_place_of_a_vae_reconstructs_as_f_does(digits, features):
    train, test = digits
    model = InPlaceOfVAE(features, train)
    torch.testing.assert_close(model.reconstruct(test.items), features.reconstruct(test.items), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.encode(test.items).mean, features.features(test.items))
    samples = model.sample(7, torch.Generator().manual_seed(1))
    assert samples.shape == (7, *test.shape)
    assert samples.min() >= 0
    assert samples.max() <= 1
    assert torch.equal(samples, model.sample(7, torch.Generator().manual_seed(1)))
    z = model.encode(test.items).sample(torch.Generator().manual_seed(2))
    kl = model.prior.kl(model.encode(test.items), z)
    torch.testing.assert_close(kl, model.encode(test.items).log_prob(z) - model.prior.log_prob(z))


def test_halves_share_no_item_and_leave_none_out():
    data = datasets.load("circle", "test").subset(101)
    first, second = two_halves(data, 4)
    assert len(first) + len(second) == 101
    both = torch.cat([first.items, second.items])
    assert torch.equal(both.sort(0).values, data.items.sort(0).values)
    assert not torch.equal(first.items, two_halves(data, 5)[0].items)
    assert isinstance(initial_autoencoder(first), Identity)
