"""Controls that pull as hard as L_topo, and the encoder that starts from F's layers."""

from __future__ import annotations

import pytest
import torch

from topo_utils import datasets
from topo_utils.config import DiffusionConfig, VAEConfig
from topo_utils.metrics import metric
from topo_utils.models.features import initial_autoencoder
from topo_utils.models.vae import VAE
from topo_utils.seed import generator, seed_everything
from topo_utils.topology import DistanceMatching, TopologicalLoss
from topo_utils.training import fit

pytestmark = pytest.mark.filterwarnings("ignore:most bars are shorter than the first step")
CONFIG = VAEConfig(
    dataset="torus",
    seed=5,
    latent_dimension=2,
    width=8,
    batch_size=40,
    cloud_size=20,
    gamma_latent=2.0,
    warmup=0.0,
    epochs=1,
)


@pytest.fixture(scope="module")
def torus():
    train = datasets.load("torus", "train", limit=120)
    return train, datasets.load("torus", "validation", limit=190), initial_autoencoder(train)


def norm_by_hand(loss, network, x, codes):
    points = network.encode(x).mean
    gradients = torch.autograd.grad(loss(codes.view(-1, 20, 3), points.view(-1, 20, 2)), network.encoder.parameters())
    return torch.cat([each.flatten() for each in gradients]).norm().item()


def test_the_factor_is_the_ratio_of_the_gradients_on_validation_batches(torus):
    train, validation, features = torus
    history = fit(CONFIG.replace(regularizer="distances", match="gradient"), *torus, progress="none").history
    stream = generator(CONFIG.seed, "grid")
    clouds = torch.stack([torch.randperm(120, generator=stream)[:20] for _ in range(16)])
    topological = TopologicalLoss(scale_free=True).fit(features.features(train.items)[clouds])
    seed_everything(CONFIG.seed, "initial weights")
    network = VAE(train.shape, 2, "points", 8)
    norms = []
    for loss in (topological, DistanceMatching(scale_free=True)):
        batches = validation.items.split(40)[:4]
        norms.append(sum(norm_by_hand(loss, network, x, features.features(x)) for x in batches))
    assert history["factor_latent"].iloc[0] == pytest.approx(norms[0] / norms[1], rel=1e-4)
    assert abs(history["factor_latent"].iloc[0] - 1) > 0.2


@pytest.mark.parametrize("regularizer", ["distances", "shuffled", "regressed-codes"])
def test_a_matched_control_is_trained_as_with_another_gamma(regularizer, torus):
    matched = fit(CONFIG.replace(regularizer=regularizer, match="gradient"), *torus, progress="none")
    factor = matched.history["factor_latent"].iloc[0]
    gamma = 2.0 * factor
    plain = fit(CONFIG.replace(regularizer=regularizer, gamma_latent=gamma), *torus, progress="none")
    other = fit(CONFIG.replace(regularizer=regularizer), *torus, progress="none")
    for (name, one), same, another in zip(
        matched.model.state_dict().items(),
        plain.model.state_dict().values(),
        other.model.state_dict().values(),
        strict=True,
    ):
        torch.testing.assert_close(one, same, rtol=1e-5, atol=1e-6)
        if name == "encoder.1.0.weight":
            assert not torch.allclose(one, another, rtol=1e-5, atol=1e-6)
    norms = matched.history["gradient_topological"].iloc[-1], plain.history["gradient_topological"].iloc[-1]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


def test_factors_are_taken_anew_in_each_epoch_and_after_an_interruption(torus, tmp_path):
    config = CONFIG.replace(regularizer="distances", match="gradient", epochs=3)
    whole = fit(config, *torus, progress="none")
    assert whole.history["factor_latent"].nunique() == 3
    again = fit(config, *torus, tmp_path, progress="none")
    (tmp_path / "checkpoint.ckpt").unlink()
    assert again.history["factor_latent"].equals(whole.history["factor_latent"])


def test_the_regulariser_itself_is_not_matched_with_itself(torus):
    matched, plain = (fit(CONFIG.replace(match=how), *torus, progress="none") for how in ("gradient", "gamma"))
    assert "factor_latent" not in matched.history
    for one, other in zip(matched.model.state_dict().values(), plain.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_diffusion_model_is_matched_too(torus):
    config = DiffusionConfig(
        dataset="torus", width=8, batch_size=40, cloud_size=20, gamma_denoised=1.0, epochs=1, regularizer="distances"
    )
    history = fit(config.replace(match="gradient"), *torus, progress="none").history
    assert history["factor_denoised"].iloc[0] > 0


def test_too_few_validation_items_to_match_on_are_named(torus):
    train, validation, features = torus
    config = CONFIG.replace(regularizer="distances", match="gradient")
    with pytest.raises(ValueError, match=r"validation: wanted at least cloud_size \(20\) items to match on, got 15"):
        fit(config, train, validation.subset(15), features, progress="none")


def test_an_encoder_starts_from_fs_layers(digits):
    train, _ = digits
    features = initial_autoencoder(train, epochs=1, width=8)
    config = VAEConfig(width=8, epochs=1, batch_size=32, learning_rate=1e-12, latent_dimension=3, encoder_from="features")
    started = fit(config, *digits, features, progress="none").model.encoder.state_dict()
    wanted, last = features.encoder.state_dict(), list(started)[-2:]
    assert started[last[0]].shape[0] == 6
    for name, value in started.items():
        assert name in last or torch.allclose(value, wanted[name], atol=1e-6)
    plain = fit(config.replace(encoder_from="random"), *digits, features, progress="none").model.encoder.state_dict()
    assert not torch.allclose(plain["0.weight"], wanted["0.weight"], atol=1e-3)
    for name in last:  # the same chance decides the rest
        assert torch.allclose(started[name], plain[name], atol=1e-6)


def test_an_encoder_that_fs_layers_do_not_fit_is_named(digits, features, torus):
    config = VAEConfig(width=8, epochs=1, batch_size=32, encoder_from="features")
    with pytest.raises(ValueError, match="encoder_from: wanted 'random', for F's encoder has other layers"):
        fit(config, *digits, features, progress="none")
    with pytest.raises(ValueError, match="encoder_from"):
        fit(config.replace(cloud_size=20), *torus, progress="none")


def test_what_a_record_says_of_the_pull(torus):
    matched = fit(CONFIG.replace(regularizer="distances", match="gradient", epochs=2), *torus, progress="none")
    rows = matched.history.to_dict("records")
    assert matched.pull == pytest.approx(
        {
            "gradient_ratio": rows[1]["gradient_topological"] / rows[1]["gradient_loss"],
            "factor_latent": (rows[0]["factor_latent"] + rows[1]["factor_latent"]) / 2,
        }
    )
    assert all(metric(name) for name in matched.pull)
    assert fit(CONFIG.replace(gamma_latent=0.0), *torus, progress="none").pull == {}
