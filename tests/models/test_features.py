from __future__ import annotations

import math

import pytest
import torch
from sklearn.manifold import Isomap
from torch.nn.functional import pdist

from topo_utils import datasets, paths
from topo_utils.models.features import Autoencoder, initial_autoencoder, judge, training_steps
from topo_utils.seed import generator


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
    initial_autoencoder(digits[0], epochs=1, width=8)
    initial_autoencoder(digits[0], epochs=1, kind="augmented")
    assert len(list(paths.processed().glob("*.safetensors"))) == 5


@pytest.mark.parametrize(("name", "items"), [("digits", 700), ("nci", 130), ("torus", 200)])
def test_training_steps_are_those_that_the_training_makes(name, items, monkeypatch):
    train, step, made = datasets.load(name, "train", limit=items), torch.optim.Adam.step, []
    assert training_steps("points", 10) == 0
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: (made.append(1), step(self))[1])
    initial_autoencoder(train, dimension=2, width=1)
    assert training_steps(train.domain.name, items) == len(made)


def test_an_augmented_autoencoder_sees_changed_items_and_wants_the_unchanged(digits, monkeypatch):
    seen, items = [], digits[0].items
    monkeypatch.setattr(Autoencoder, "error", lambda self, x, changed: seen.append((x, changed)) or self.encoder(x).sum())
    for kind in ("plain", "augmented"):
        initial_autoencoder(digits[0], epochs=1, kind=kind)
    half = len(seen) // 2
    assert all(torch.equal(x, changed) for x, changed in seen[:half])
    assert not any(torch.equal(x, changed) for x, changed in seen[half:])
    assert torch.cat([x for x, _ in seen[half:]]).sum().item() == pytest.approx(items.sum().item(), rel=1e-4)


def test_what_cannot_be_augmented_is_named(digits):
    with pytest.raises(ValueError, match="kind: wanted 'plain' for points, which have no augmentation"):
        initial_autoencoder(datasets.load("torus", "train", limit=50), kind="augmented")
    with pytest.raises(ValueError, match="kind"):
        initial_autoencoder(digits[0], kind="turned")


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


def test_geodesic_features_are_those_of_isomap():
    train, test = datasets.load("swiss-roll", "train", limit=200), datasets.load("swiss-roll", "test").items[:50]
    F = initial_autoencoder(train, dimension=6, kind="geodesic")
    chosen = torch.randperm(200, generator=generator(0, "scale"))
    assert torch.equal(F.points, train.items[chosen])
    solvers = {"eigen_solver": "dense", "path_method": "D"}
    oracle = Isomap(n_neighbors=10, n_components=6, **solvers).fit(F.points.double().numpy())
    wanted = torch.from_numpy(oracle.transform(test.double().numpy())).float()
    torch.testing.assert_close(F.encoder(test), wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(F.features(test), wanted / F.scale, atol=1e-4, rtol=1e-4)
    assert pdist(F.features(train.items)).mean() == pytest.approx(1, abs=1e-4)
    assert torch.equal(initial_autoencoder(train, dimension=6, kind="geodesic").axes, F.axes)  # from the cache


def test_geodesic_features_unroll_the_roll():
    """Two points of neighbouring turns are near in space and far along the sheet, which is a rectangle."""
    train = datasets.load("swiss-roll", "train", limit=1000)
    F, manifold = initial_autoencoder(train, kind="geodesic"), train.domain.manifold
    angles = torch.tensor([2.5, 4.5], dtype=torch.float64) * math.pi
    spiral = manifold._spiral(angles)
    pair = torch.stack([spiral.real, torch.zeros(2), spiral.imag], 1).float()
    inner, outer = F.encoder(pair)
    along = (manifold._length(angles)[1] - manifold._length(angles)[0]).item() / (4.5 * math.pi)
    assert (inner - outer).norm().item() == pytest.approx(along, rel=0.1)
    assert (pair[0] - pair[1]).norm() < 0.2 * along


def test_geodesic_features_have_gradients():
    train = datasets.load("torus", "train", limit=100)
    F = initial_autoencoder(train, dimension=4, kind="geodesic")
    x = datasets.load("torus", "test").items[:5].double().requires_grad_()
    assert torch.autograd.gradcheck(F.double().encoder, x)


def test_geodesic_features_are_for_points(digits):
    with pytest.raises(ValueError, match="which are no points, got 'geodesic'"):
        initial_autoencoder(digits[0], kind="geodesic")
    with pytest.raises(ValueError, match="more than 10 points for 'geodesic', got 9"):
        initial_autoencoder(datasets.load("torus", "train", limit=9), kind="geodesic")
