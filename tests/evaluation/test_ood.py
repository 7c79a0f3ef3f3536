"""Detection of outliers: scores by hand, areas by counting pairs, and no detection where there is nothing to detect."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from torch import nn

from topo_utils import datasets
from topo_utils.datasets import from_tensors
from topo_utils.evaluation import intervals, ood_detection
from topo_utils.evaluation.ood import negative_elbo, told_apart
from topo_utils.metrics import metric
from topo_utils.models.features import Identity
from topo_utils.models.likelihoods import Bernoulli, Gaussian
from topo_utils.models.vae import VAE, Posterior

SCORES = ("knn", "mahalanobis", "prior", "elbo", "features_knn", "features_mahalanobis")
MEASURES = ("auroc", "aupr_out", "aupr_in", "fpr95")


class Doubled(nn.Module):
    """Codes are twice the points, the posterior is narrow; p(z) is N(0, I)."""

    def __init__(self):
        super().__init__()
        self.likelihood = Gaussian((2,))

        class Prior:
            @staticmethod
            def log_prob(z):
                return -(z.square() + math.log(2 * math.pi)).sum(1) / 2

            @staticmethod
            def kl(posterior, z):
                return posterior.kl()

        self.prior = Prior()

    def encode(self, x):
        return Posterior(2 * x, torch.full_like(x, -20.0))

    def parameters_of(self, z):
        return z / 2


class Shrunk(Identity):
    """F sees the first coordinate alone."""

    def features(self, x):
        return x[:, :1]


def gaussian(n, seed, shift=0.0):
    points = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return points + torch.tensor([0.0, shift])


def split(n, seed, name="train"):
    return from_tensors(gaussian(n, seed), "points", split=name)


@pytest.fixture
def splits():
    return split(200, 0), split(150, 1, "validation"), split(120, 2, "test")


def test_the_scores_are_those_of_their_definitions(splits):
    train, validation, data = splits
    outside = gaussian(120, 3, 2.0)
    found = ood_detection(Doubled(), *splits, {"shifted": outside}, Shrunk())
    model, wanted = Doubled(), {}
    x, y, v = ((2 * each).double() for each in (data.items, outside, validation.items))
    reference = (2 * train.items).double()
    for name, columns in (("knn", [0, 1]), ("features_knn", [0])):
        near = [torch.from_numpy(cdist(e[:, columns], reference[:, columns])).sort(1)[0][:, :10] for e in (x, y, v)]
        wanted[name] = [each.mean(1) for each in near]
    wanted["prior"] = [each.square().sum(1) for each in (x, y, v)]
    wanted["elbo"] = [negative_elbo(model, each) for each in (data.items, outside, validation.items)]
    for name, (inside, out, held) in wanted.items():
        higher = (out[:, None] > inside).double().mean().item()
        assert found[f"ood_auroc_{name}_shifted"] == pytest.approx(higher, abs=1e-3), name
        threshold = held.quantile(0.95)
        assert found[f"ood_fpr95_{name}_shifted"] == pytest.approx((out <= threshold).double().mean().item(), abs=1e-2)
    centred = reference - reference.mean(0)
    covariance = centred.T @ centred / len(centred)
    plain = [((e - reference.mean(0)) @ covariance.inverse() * (e - reference.mean(0))).sum(1) for e in (x, y)]
    higher = (plain[1][:, None] > plain[0]).double().mean().item()
    assert found["ood_auroc_mahalanobis_shifted"] == pytest.approx(higher, abs=0.01)  # the shrinkage is small here
    for name, (inside, out, _) in wanted.items():
        ends = intervals.of_auroc(f"ood_auroc_{name}_shifted", inside, out)
        assert {end: found[end] for end in ends} == pytest.approx(ends, abs=0.01)  # items come in another order
    ends = {f"ood_auroc_{s}_shifted_{end}" for s in SCORES for end in ("low", "high")}
    assert set(found) == {f"ood_{m}_{s}_shifted" for m in MEASURES for s in SCORES} | ends
    assert all(metric(name) for name in found)


def test_the_same_distribution_is_not_told_apart_and_what_is_far_is(splits):
    outliers = {"same": gaussian(1000, 7), "far": gaussian(100, 8, 40.0)}
    found = ood_detection(Doubled(), splits[0], splits[1], split(1000, 2, "test"), outliers, Shrunk())
    for score in SCORES:
        assert found[f"ood_auroc_{score}_same"] == pytest.approx(0.5, abs=0.05)  # its standard error is .013
        assert found[f"ood_aupr_out_{score}_same"] == pytest.approx(0.5, abs=0.06)
        assert found[f"ood_fpr95_{score}_same"] == pytest.approx(0.95, abs=0.05)
        if not score.startswith("features"):
            assert found[f"ood_auroc_{score}_far"] == 1
            assert found[f"ood_aupr_in_{score}_far"] == 1
            assert found[f"ood_fpr95_{score}_far"] == 0
    assert found["ood_auroc_features_knn_far"] < 0.7  # F does not see in which direction they lie


@given(st.integers(0, 1000))
def test_turning_scores_round_turns_the_area_round(seed):
    stream = torch.Generator().manual_seed(seed)
    inside, outside, validation = torch.randn(3, 30, generator=stream)
    there, back = told_apart(inside, outside, validation), told_apart(-inside, -outside, validation)
    assert there["auroc"] == pytest.approx(1 - back["auroc"])
    shifted = told_apart(3 * inside + 1, 3 * outside + 1, 3 * validation + 1)
    assert shifted == pytest.approx(there)


def test_measures_by_hand():
    inside, outside = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([2.5, 5.0, 6.0, 0.5])
    found = told_apart(inside, outside, torch.arange(21.0) / 4)  # the quantile is 4.75
    assert found["auroc"] == pytest.approx((2 + 4 + 4 + 0) / 16)
    # from the highest score: out, out, in, in, out, in, in, out
    assert found["aupr_out"] == pytest.approx((1 / 1 + 2 / 2 + 3 / 5 + 4 / 8) / 4)
    assert found["aupr_in"] == pytest.approx((1 / 2 + 2 / 3 + 3 / 5 + 4 / 6) / 4)
    assert found["fpr95"] == pytest.approx(0.5)


def test_precision_is_taken_at_equal_numbers():
    inside, outside = torch.randn(2000, generator=torch.Generator().manual_seed(0)), torch.randn(50)
    assert told_apart(inside, outside, inside)["aupr_out"] == pytest.approx(0.5, abs=0.15)


def test_the_entropy_of_grey_pixels_is_taken_off():
    grey = torch.full((3, 1, 4, 4), 0.5)
    likelihood = Bernoulli((1, 4, 4))
    assert likelihood.least_nats(grey).tolist() == pytest.approx([16 * math.log(2)] * 3)
    assert likelihood.least_nats((grey > 0.9).float()).tolist() == [0, 0, 0]
    assert likelihood.nats(torch.zeros(3, 1, 4, 4), grey).tolist() == pytest.approx([16 * math.log(2)] * 3)
    model = VAE((1, 4, 4), 2, width=8)
    posterior = model.encode(grey)
    from topo_utils.seed import generator

    z = posterior.sample(generator(5, "elbo"))
    wanted = likelihood.nats(model.parameters_of(z), grey) + posterior.kl() - 16 * math.log(2)
    torch.testing.assert_close(negative_elbo(model, grey, 5), wanted)


def test_sets_that_a_domain_makes_of_its_items():
    for name, wanted in {
        "digits": {"shuffled", "rotated"},
        "masks-28": {"shuffled"},
        "nci": {"shuffled"},
        "social": {"shuffled"},
        "torus": {"shuffled", "off"},
    }.items():
        data = datasets.load(name, "test")
        made = data.domain.outliers(data.items, torch.Generator().manual_seed(0))
        assert set(made) == wanted
        for each in made.values():
            assert each.shape == data.items.shape
            assert not torch.equal(each, data.items)
        if name != "social":  # every value once, in its place
            torch.testing.assert_close(made["shuffled"].sum(0), data.items.sum(0), rtol=1e-4, atol=1e-2)


def test_what_is_made_of_points_graphs_molecules_and_images():
    stream = torch.Generator().manual_seed(0)
    torus = datasets.load("torus", "test")
    off = torus.domain.outliers(torus.items, stream)["off"]
    steps = (off - torus.items).norm(dim=1)
    torch.testing.assert_close(steps, torch.full_like(steps, 0.1 * torus.items.var(0).sum().sqrt().item()))
    graphs = datasets.load("social", "test")
    made = graphs.domain.outliers(graphs.items, stream)["shuffled"]
    assert torch.equal(made, made.mT)
    assert set(made.unique().tolist()) == {0, 1}
    assert made.sum() == pytest.approx(graphs.items.sum().item())
    molecules = datasets.load("nci", "test")
    made = molecules.domain.outliers(molecules.items, stream)["shuffled"]
    assert (molecules.domain.atoms(made).sum(-1) == 1).all()
    assert (molecules.domain.bonds(made).sum(-1) == 1).all()
    image = torch.arange(6.0).view(1, 1, 2, 3) / 6
    turned = datasets.REGISTRY["digits"].domain.outliers(image, stream)["rotated"]
    assert torch.equal(turned[0, 0], torch.tensor([[2.0, 5], [1, 4], [0, 3]]) / 6)


def test_the_distance_of_outliers_is_stated_where_it_is_known():
    torus = {name: datasets.load("torus", name).subset(60) for name in ("train", "validation", "test")}
    off = torus["test"].domain.outliers(torus["test"].items, torch.Generator().manual_seed(0))["off"]
    model = VAE((3,), 2, "points", 8)
    found = ood_detection(model, *torus.values(), {"off": off}, Identity())
    wanted = torus["test"].domain.manifold.distance(off).mean().item()
    assert found["ood_off_manifold_off"] == pytest.approx(wanted)


def test_held_out_classes():
    train = datasets.load("digits", "train", held_out=[3, 8], limit=100, seed=4)
    assert not set(train.labels.tolist()) & {3, 8}
    assert train.held_out == (3, 8)
    assert train.described()["held_out"] == [3, 8]
    test = datasets.load("digits", "test")
    assert set(test.of_class(3, 8).labels.tolist()) == {3, 8}
    assert len(test.of_class(3, 8)) + len(test.without(3, 8)) == len(test)
    assert "held_out" not in test.described()
    with pytest.raises(ValueError, match=r"held_out: wanted labels of digits/test, \[0, .*\], got \[11\]"):
        test.without(3, 11)
    with pytest.raises(ValueError, match="held_out: wanted some label"):
        test.without(*range(10))


@pytest.mark.parametrize(
    ("outliers", "error", "message"),
    [
        ({"train": torch.zeros(3, 2)}, ValueError, "a name of its own for each set, got 'train'"),
        ({"x": torch.zeros(3, 3)}, ValueError, "outliers\\['x'\\]: wanted the shape"),
        ({"x": torch.zeros(1, 2)}, ValueError, "n >= 2"),
        ({"x": torch.full((3, 2), torch.nan)}, ValueError, "wanted finite"),
        ({"x": torch.zeros(3, 2).double()}, TypeError, "wanted float32"),
    ],
)
def test_bad_outliers_are_named(outliers, error, message, splits):
    with pytest.raises(error, match=message):
        ood_detection(Doubled(), *splits, outliers, Shrunk())
    with pytest.raises(ValueError, match="train, data: wanted more than 10"):
        ood_detection(Doubled(), split(10, 0), *splits[1:], {}, Shrunk())
