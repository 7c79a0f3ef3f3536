"""Training runs computed by hand: ``fit`` gives the same weights and the same history."""

from __future__ import annotations

import time

import pandas as pd
import pytest
import torch

from topo_utils import datasets
from topo_utils.config import DiffusionConfig, VAEConfig
from topo_utils.models.features import initial_autoencoder
from topo_utils.models.vae import VAE
from topo_utils.topology import TopologicalLoss
from topo_utils.training import fit

from .by_hand import diffusion_by_hand, vae_by_hand
from .landscape_loss import LandscapeLoss

# what an untrained decoder makes is nearly all the same
pytestmark = pytest.mark.filterwarnings("ignore:most bars are shorter than the first step")

# Nothing that a factor of 1 or a default would hide; the last items of an epoch and of a batch are left over. Steps are
# small, lest a pair that another rounding chooses lead elsewhere; Adam's steps have the length of the learning rate
# whatever the loss, so that what is wrong shows as a share of it. With this seed, the sixteenth of the clouds for the grid
# has the latest death of all, and a seventeenth would have a later one.
COMMON = {
    "dataset": "torus",
    "seed": 986,
    "width": 8,
    "epochs": 2,
    "batch_size": 32,
    "cloud_size": 12,
    "learning_rate": 3e-4,
    "h0_weight": 0.6,
    "h1_weight": 2.5,
    "warmup": 0.7,
}
POINTS = VAEConfig(**COMMON, latent_dimension=2, beta=0.4)
NOISY = DiffusionConfig(**COMMON, sigma_min=0.1, sigma_max=3.0, decay=0.25, topological_sigma=1.1)
IMAGES = {"dataset": "digits", "batch_size": 16, "cloud_size": 6}
MASKS = {"dataset": "masks-28", "batch_size": 16, "cloud_size": 6, "width": 16}
TIMES = ["seconds", "seconds_topological"]


@pytest.fixture(scope="module")
def torus():
    """Four batches to train on and two to validate, and F."""
    train = datasets.load("torus", "train", limit=135)
    return train, datasets.load("torus", "validation", limit=600), initial_autoencoder(train)


@pytest.fixture(scope="module")
def few_digits(digits, features):
    """Three batches to train on."""
    return digits[0].subset(55), digits[1].subset(30), features


@pytest.fixture(scope="module")
def few_masks(features):
    """Three batches to train on."""
    return *(datasets.load("masks-28", split, limit=55) for split in ("train", "validation")), features


def cases(*options):
    return pytest.mark.parametrize("options", options, ids=str)


def difference(weights, others):
    """Root mean square over all weights."""
    squares = [(weights[name].double() - others[name]).square().flatten() for name in weights]
    return torch.cat(squares).mean().sqrt().item()


def assert_same(config, trained, weights, rows):
    """Weights to a thousandth of a step, history to float32's accuracy."""
    got = trained.model.state_dict()
    assert got.keys() == weights.keys()
    assert difference(got, weights) < 1e-3 * config.learning_rate
    wanted, history = pd.DataFrame(rows), trained.history.drop(columns=TIMES)
    assert set(history) == set(wanted)
    of_a_density = [name for name in wanted if name.endswith("kl")]  # a small difference of larger numbers
    pd.testing.assert_frame_equal(history[of_a_density], wanted[of_a_density], rtol=1e-5, atol=1e-5)
    rest = list(wanted.columns.difference(of_a_density))
    pd.testing.assert_frame_equal(history[rest], wanted[rest], rtol=1e-5)


@cases(
    {},
    {"gradient_clip": 0.5},
    {"gamma_latent": 3.0},
    {"gamma_latent": 3.0, "gradient_clip": 0.5},
    {"gamma_latent": 3.0, "levels": 1},
    {"gamma_reconstruction": 40.0},
    {"gamma_generated": 40.0},
    {"gamma_latent": 3.0, "gamma_generated": 20.0},
    {"gamma_latent": 3.0, "warmup": 0.0},
    {"gamma_latent": 3.0, "warmup": 1.0},
    {"gamma_latent": 3.0, "every": 2},
    {"gamma_latent": 0.5, "representation": "image"},
    {"gamma_reconstruction": 20.0, "filtration": "knn", "k": 4},
    {"gamma_latent": 1.0, "regularizer": "distances"},
    {"gamma_latent": 1.0, "regularizer": "critical-edges"},
    {"gamma_reconstruction": 3.0, "regularizer": "critical-edges-h1"},
    {"gamma_generated": 1.0, "regularizer": "energy"},
    {"gamma_latent": 3.0, "regularizer": "gaussian"},
    {"gamma_reconstruction": 20.0, "regularizer": "shuffled"},
    {"prior": "mixture"},
    {"prior": "mixture", "beta": 0.3, "gamma_latent": 3.0, "gamma_generated": 20.0},
    {"prior": "vamp", "gamma_generated": 20.0},
)
def test_a_vae_of_points(options, torus):
    config = POINTS.replace(**options)
    assert_same(config, fit(config, *torus, progress="none"), *vae_by_hand(config, *torus))


@cases(
    {},
    {"gamma_reconstruction": 10.0},
    {"prior": "vamp"},
    {"gamma_sample": 1e4},
    {"gamma_sample": 300.0, "representation": "image", "gamma_generated": 1e4},
)
def test_a_vae_of_images(options, few_digits):
    config = POINTS.replace(**IMAGES, **options)
    assert_same(config, fit(config, *few_digits, progress="none"), *vae_by_hand(config, *few_digits))


@cases(
    {},
    {"decay": 0.999, "gradient_clip": 0.5, "schedule": "loguniform"},
    {"gamma_denoised": 20.0},
    {"gamma_denoised": 20.0, "cloud_size": 30},
    {"gamma_denoised": 20.0, "topological_sigma": 0.4},
    {"gamma_denoised": 20.0, "filtration": "knn", "k": 8, "topological_sigma": 0.3},
    {"gamma_denoised": 20.0, "regularizer": "energy", "every": 2},
    {"gamma_denoised": 20.0, "regularizer": "gaussian"},
)
def test_a_diffusion_model_of_points(options, torus):
    config = NOISY.replace(**options)
    assert_same(config, fit(config, *torus, progress="none"), *diffusion_by_hand(config, *torus))


@cases(
    {"gamma_sample": 500.0},
    {"gamma_denoised": 500.0, "gamma_sample": 500.0},
    {"condition": "components"},
    {"condition": "holes", "betti_dimension": 1, "gamma_betti": 90.0},
    {"gamma_betti": 200.0, "betti_form": "code", "topological_sigma": 0.5},
)
def test_a_diffusion_model_of_masks(options, few_masks):
    config = NOISY.replace(**MASKS, **options)
    assert_same(config, fit(config, *few_masks, progress="none"), *diffusion_by_hand(config, *few_masks))


@cases(
    {"gamma_latent": 3.0},
    {"gamma_reconstruction": 40.0, "levels": 2},
    {"gamma_generated": 40.0, "gamma_latent": 1.0},
)
def test_the_topological_loss_is_the_formula_with_pairs_of_gudhi(options, torus):
    config = POINTS.replace(**options)

    def loss_of(config, comparison, domain):
        return LandscapeLoss((config.h0_weight, config.h1_weight), config.levels, scale_free=comparison == "latent")

    assert_same(config, fit(config, *torus, progress="none"), *vae_by_hand(config, *torus, loss_of))


@cases({"every": 3}, {"every": 7}, {"every": 1000})
def test_every_counts_the_steps_of_the_whole_training(options, torus):
    config = POINTS.replace(gamma_latent=3.0, **options)
    assert_same(config, fit(config, *torus, progress="none"), *vae_by_hand(config, *torus))


def test_seconds_are_those_of_the_clock(torus, monkeypatch):
    """On a clock that only the network (a second a step) and the regulariser (ten a comparison) move."""
    now, network, regularizer = [0.0], VAE.forward, TopologicalLoss.forward

    def taking(seconds, function):
        def slow(*arguments):
            now[0] += seconds
            return function(*arguments)

        return slow

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(VAE, "forward", taking(1, network))
    monkeypatch.setattr(TopologicalLoss, "forward", taking(10, regularizer))
    config = POINTS.replace(gamma_latent=3.0, gamma_generated=40.0, every=2)
    history = fit(config, *torus, progress="none").history
    assert history["seconds_topological"].tolist() == [2 * 2 * 10] * 2
    assert history["seconds"].tolist() == [2 * 2 * 10 + 4] * 2
    assert fit(POINTS, *torus, progress="none").history[TIMES].to_numpy().tolist() == [[4, 0]] * 2
