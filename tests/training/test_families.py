"""A family may have two optimisers, and a model is made again from what is written of it."""

from __future__ import annotations

import json
from typing import Annotated, ClassVar

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import nn

from topo_utils import datasets
from topo_utils.config import Comparison, DiffusionConfig, RunConfig, VAEConfig
from topo_utils.models.features import initial_autoencoder
from topo_utils.training import FAMILIES, Specification, Training, fit


class PairConfig(RunConfig):
    comparisons: ClassVar[dict[str, Comparison]] = {"generated": Comparison(paired=False)}
    gamma_generated: Annotated[float, Field(ge=0)] = 0.0
    model: ClassVar[str] = "pair"


class Pair(nn.Module):
    """A generator and a discriminator."""

    def __init__(self, shape):
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, *shape))
        self.discriminator = nn.Sequential(nn.Linear(*shape, 16), nn.SiLU(), nn.Linear(16, 1))


class TrainingPair(Training):
    """A GAN in a dozen lines: two optimisers, each with its own rate, in one step."""

    family = "pair"

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.automatic_optimization = False

    @classmethod
    def build(cls, config, domain, shape, **options):
        return Pair(shape)

    def configure_optimizers(self):
        parts = ((self.model.generator, self.config.learning_rate), (self.model.discriminator, 2e-3))
        return [torch.optim.Adam(part.parameters(), lr=rate) for part, rate in parts]

    def objective(self, batch):
        made = self.model.generator(torch.randn(len(batch.items), 2))
        loss = nn.functional.softplus(-self.model.discriminator(made)).mean()

        def compare():
            return self.regularizers["generated"](batch.references["generated"], self.feature_clouds(made))

        return loss, {}, {"generated": compare}

    def training_step(self, batch, index):
        generator, discriminator = self.optimizers()
        loss, terms, comparisons = self.objective(batch)
        loss, terms, seconds = self.penalised(loss, terms, comparisons, batch, index)
        self.minimise(generator, loss)
        made = self.model.generator(torch.randn(len(batch.items), 2)).detach()
        scores = self.model.discriminator(batch.items), self.model.discriminator(made)
        other = nn.functional.softplus(-scores[0]).mean() + nn.functional.softplus(scores[1]).mean()
        self.minimise(discriminator, other)
        self.record({**terms, "discriminator": other, "loss": loss}, seconds)

    def minimise(self, optimizer, loss):
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def validation_step(self, batch, index):
        self.log("validation/score", self.model.discriminator(batch.items).mean(), **self.over(batch.items))


@pytest.fixture
def torus():
    return datasets.load("torus", "train", limit=200), datasets.load("torus", "validation", limit=50)


def test_a_family_with_two_optimisers_trains_warms_up_and_goes_on(torus, monkeypatch, tmp_path):
    monkeypatch.setitem(FAMILIES, PairConfig, TrainingPair)
    F = initial_autoencoder(torus[0])
    config = PairConfig(dataset="torus", epochs=3, batch_size=32, cloud_size=16, gamma_generated=5.0, warmup=0.5, every=2)
    seen = []
    warmup = Training.warmup
    monkeypatch.setattr(Training, "warmup", lambda self: seen.append((self.step, warmup(self))) or seen[-1][1])
    whole = fit(config, *torus, F, progress="none")
    assert [step for step, _ in seen] == list(range(0, 18, 2))  # steps are counted once, whatever the optimisers
    assert [factor for _, factor in seen] == pytest.approx([min(1, (step + 1) / 9) for step, _ in seen])
    assert np.isfinite(whole.history[["discriminator", "topological_generated", "validation_score"]]).all(axis=None)

    start = TrainingPair.on_train_epoch_start
    with monkeypatch.context() as patch:

        def killed(self):
            if self.current_epoch == 2:
                raise SystemExit("killed")
            start(self)

        patch.setattr(TrainingPair, "on_train_epoch_start", killed)
        with pytest.raises(SystemExit):
            fit(config, *torus, F, tmp_path, progress="none")
    resumed = fit(config, *torus, F, tmp_path, progress="none")
    for one, other in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("config", "data"),
    [
        (VAEConfig(latent_dimension=3, width=4), "nci"),
        (DiffusionConfig(width=8, condition="holes", betti_dimension=1), "masks-28"),
        (DiffusionConfig(width=4), "torus"),
    ],
)
def test_a_specification_is_all_that_a_network_is_made_from(config, data):
    specification = Specification.of(config, datasets.load(data, "train", limit=50))
    again = Specification.read(json.loads(json.dumps(specification.written())))
    assert again == specification
    torch.manual_seed(3)
    one = specification.build().state_dict()
    torch.manual_seed(3)
    other = again.build().state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_unknown_family_is_named():
    with pytest.raises(ValueError, match="family: wanted one of vae, diffusion, got 'gan'"):
        Specification.read({"family": "gan"})
