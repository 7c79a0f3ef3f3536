"""Attacks: on a linear decoder and a linear judge the best δ has a closed form."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from topo_utils.datasets import from_tensors
from topo_utils.evaluation import intervals
from topo_utils.evaluation.attacks import (
    attack_success,
    displaced,
    encoder_attack,
    misread,
    pgd,
    radius_that_moves,
    symmetric_kl,
    uniform_in_ball,
)
from topo_utils.metrics import metric
from topo_utils.models.features import Identity
from topo_utils.models.vae import Posterior

STRETCH = torch.tensor([4.0, 1.0])


class Prior:
    def sample(self, count, stream):
        return 3 * torch.randn(count, 2, generator=stream)


class Linear(nn.Module):
    """Codes are the items times a scale, stretched; the decoder undoes it. Log variances are constant."""

    prior = Prior()

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale

    def encode(self, x):
        mean = self.scale * STRETCH * x.flatten(1)
        return Posterior(mean, torch.full_like(mean, math.log(0.5)))

    def decode(self, z):
        return (z / self.scale / STRETCH).view(-1, 1, 1, 2)

    def reconstruct(self, x):
        return self.decode(self.encode(x).mean)


class Sides(nn.Module):
    """A judge of two classes: which side of the line x + y = 1; logits ±(x + y - 1)."""

    def forward(self, x):
        margin = x.flatten(1).sum(1) - 1
        return torch.stack([-margin, margin], 1)


class Third(nn.Module):
    """A judge that takes everything for a third class."""

    def forward(self, x):
        return torch.tensor([[0.0, 0.0, 1.0]]).expand(len(x), 3)


class Flat(Identity):
    def features(self, x):
        return x.flatten(1)


def margins(x):
    """Distance in code space, at scale 1, to the judge's line: |x + y - 1| over the norm of its gradient there."""
    return (x.flatten(1).sum(1) - 1).abs() / (1 / STRETCH).norm()


@pytest.fixture
def data():
    items = torch.rand(150, 1, 1, 2, generator=torch.Generator().manual_seed(3))
    return from_tensors(items, "images", labels=(items.flatten(1).sum(1) > 1).long())


def test_pgd_flips_exactly_what_can_be_flipped(data):
    model = Linear()
    codes = model.encode(data.items).mean
    for radius in (0.1, 0.3, 0.5):
        attacked = pgd(misread(model, Sides(), data.labels), codes, radius, steps=200)
        reachable = margins(data.items) < radius * 0.995
        hopeless = margins(data.items) >= radius
        assert attacked.success[reachable].all()
        assert not attacked.success[hopeless].any()
        assert attacked.perturbation.norm(dim=1).max() <= radius * (1 + 1e-5)
        assert 0 < attacked.success.float().mean() < 1
        labels = Sides()(model.decode(codes + attacked.perturbation)).argmax(1)
        assert torch.equal(labels != data.labels, attacked.success)


def test_the_value_is_the_largest_that_there_is(data):
    """Of what is not flipped: the cross-entropy at the point of the ball that is nearest to the line."""
    model, radius = Linear(), 0.2
    attacked = pgd(misread(model, Sides(), data.labels), model.encode(data.items).mean, radius, steps=400)
    rest = ~attacked.success
    margin = (margins(data.items)[rest] - radius) * (1 / STRETCH).norm()
    torch.testing.assert_close(attacked.value[rest], torch.log1p(torch.exp(-2 * margin)), rtol=5e-3, atol=1e-4)


def test_what_a_smaller_radius_achieved_holds_for_a_larger_one(data):
    model = Linear()
    codes, goal = model.encode(data.items).mean, misread(Linear(), Sides(), data.labels)
    small = pgd(goal, codes, 0.3)
    large = pgd(goal, codes, 0.6, known=small)
    assert large.success[small.success].all()
    assert torch.equal(large.perturbation[small.success], small.perturbation[small.success])
    assert large.success.sum() > small.success.sum()


def bumpy(centre):
    """A hill at the centre, which is hidden behind a lower one for a start on the wrong side."""

    def goal(z, at):
        value = torch.exp(-(((z - 1) / 0.3) ** 2).sum(1)) + 2 * torch.exp(-(((z + 1) / 0.3) ** 2).sum(1))
        return value, value > centre

    return goal


def test_restarts_find_what_one_run_misses_and_never_lose():
    points = torch.zeros(60, 1)
    one, five = (pgd(bumpy(1.9), points, 1.5, restarts=n, seed=2).success for n in (1, 5))
    assert 0 < one.float().mean() < 1
    assert five[one].all()
    assert five.float().mean() > one.float().mean()


def test_the_best_of_all_steps_is_kept():
    """A step as long as 2.5 radii oversteps the hill; what was highest on the way counts."""
    seen = []

    def goal(z, at):
        value = -(z - 0.5).abs().sum(1)
        seen.append(value.detach())
        return value, torch.zeros(len(z), dtype=torch.bool)

    attacked = pgd(goal, torch.zeros(1, 1), 1.0, steps=3, restarts=2)
    assert attacked.value.item() == pytest.approx(torch.cat(seen).max().item())
    assert len(seen) == 1 + 2 * 4


def test_a_success_is_kept_though_the_value_still_rises():
    def goal(z, at):
        return z[:, 0], (z[:, 0] > 0.3) & (z[:, 0] < 0.5)

    attacked = pgd(goal, torch.zeros(20, 2), 1.0, steps=40, restarts=1)
    assert attacked.success.any()
    assert (goal(attacked.perturbation, None)[1] == attacked.success).all()


def test_starts_are_uniform_in_the_ball():
    points = uniform_in_ball((20000, 3), torch.Generator().manual_seed(0))
    assert points.norm(dim=1).max() <= 1 + 1e-6
    assert (points.norm(dim=1) < 0.5).float().mean().item() == pytest.approx(1 / 8, abs=0.01)
    assert points.mean(0).abs().max() < 0.02


def test_every_metric_by_hand(data):
    model, judge = Linear().train(), Sides().train()
    wrong = torch.arange(150) < 30
    data = from_tensors(data.items, "images", labels=data.labels.where(~wrong, 1 - data.labels))
    metrics = attack_success(model, data, Flat(), judge, second=Sides(), items=150, steps=100)
    assert not model.training
    assert not judge.training
    assert all(metric(name) for name in metrics)
    codes, labels = model.encode(data.items).mean, data.labels
    unit = torch.cdist(codes, codes)[labels[:, None] != labels].median()
    distances = margins(data.items)[~wrong]
    assert metrics["pgd_kept"] == pytest.approx(0.8)
    by_chance = [(distances / (p / 100 * unit)).clamp(max=1).acos() / math.pi for p in (5, 10, 15, 20, 30, 40)]
    drawn = [metrics[f"pgd_random_{p}"] for p in (5, 10, 15, 20, 30, 40)]
    assert sum(drawn) / 6 == pytest.approx(torch.stack(by_chance).mean().item(), abs=0.03)
    for percent in (5, 10, 15, 20, 30, 40):
        wanted = (distances < percent / 100 * unit).float().mean().item()
        assert metrics[f"pgd_{percent}"] == pytest.approx(wanted, abs=0.011)
        assert metrics[f"pgd_second_{percent}"] == metrics[f"pgd_{percent}"]
        assert metrics[f"pgd_random_{percent}"] < 0.75 * metrics[f"pgd_{percent}"]
    values = [0.0, *(metrics[f"pgd_{p}"] for p in (5, 10, 15, 20, 30, 40))]
    heights = [(a + b) / 2 for a, b in pairwise(values)]
    area = sum(h * w for h, w in zip(heights, (5, 5, 5, 5, 10, 10), strict=True)) / 40
    assert metrics["pgd_area"] == pytest.approx(area, rel=1e-5)
    flips = torch.stack([distances < p / 100 * unit for p in (0, 5, 10, 15, 20, 30, 40)]).float()
    of_items = torch.trapezoid(flips, torch.tensor([0.0, 5, 10, 15, 20, 30, 40]), dim=0) / 40
    assert {end: metrics[end] for end in ("pgd_area_low", "pgd_area_high")} == pytest.approx(
        intervals.of_mean("pgd_area", of_items), abs=0.011
    )
    for percent in (25, 50, 100):  # the prior's standard deviation is 3
        wanted = (distances < percent / 100 * 3).float().mean().item()
        assert metrics[f"pgd_prior_{percent}"] == pytest.approx(wanted, abs=0.04)
    apart = torch.cdist(data.items.flatten(1), data.items.flatten(1))[labels[:, None] != labels].median().item()
    for percent in (10,):  # means move by 4 times what the items move along the first axis
        reached = metrics[f"encoder_attack_kl_{percent}"]
        assert 0.8 * (4 * percent / 100 * apart) ** 2 < reached <= 1.001 * (4 * percent / 100 * apart) ** 2


@given(st.sampled_from([1e-3, 0.2, 50.0]))
def test_a_rescaled_latent_space_is_not_more_robust(scale):
    items = torch.rand(80, 1, 1, 2, generator=torch.Generator().manual_seed(4))
    data = from_tensors(items, "images", labels=(items.flatten(1).sum(1) > 1).long())
    one, other = (attack_success(Linear(s), data, Flat(), Sides(), items=80, steps=60) for s in (1.0, scale))
    for name, value in one.items():
        if name.startswith(("pgd_moved", "pgd_area", "pgd_kept", "pgd_random")) or name[4:].isdecimal():
            assert other[name] == pytest.approx(value, abs=0.02), name
    assert scale == 1 or one["pgd_prior_25"] != other["pgd_prior_25"]  # that unit does depend on the scale


def test_random_directions_of_that_radius_move_items_so_far(data):
    model = Linear(2.0)
    radius = radius_that_moves(model, Flat(), model.encode(data.items).mean, 0.1, most=100.0, seed=7)
    angles = torch.linspace(0, 2 * math.pi, 1001)
    circle = torch.stack([angles.cos(), angles.sin()], 1)
    assert (radius * circle / 2 / STRETCH).norm(dim=1).median().item() == pytest.approx(0.1, rel=0.1)
    assert radius_that_moves(model, Flat(), torch.zeros(5, 2), 1e9, most=3.0) == 3.0


def test_without_a_judge_an_item_must_move_beyond_its_neighbours(data):
    model, data = Linear(), data.subset(20)
    metrics = attack_success(model, data, Flat(), items=20)
    points = data.items.flatten(1)
    threshold = torch.cdist(points, points).fill_diagonal_(9).amin(1).median()
    codes = model.encode(data.items).mean
    distances = torch.cdist(codes, codes)[~torch.eye(20, dtype=torch.bool)].median()
    for percent in (5, 10, 20):  # the steepest direction of the decoder has slope 1: all move, or none
        assert metrics[f"displaced_{percent}"] == float(percent / 100 * distances > threshold)
    assert metrics["displaced_5"] < metrics["displaced_40"]
    assert set(metrics) == {
        *(f"displaced_{p}" for p in (5, 10, 15, 20, 30, 40)),
        *(f"displaced_random_{p}" for p in (5, 10, 15, 20, 30, 40)),
        *(f"displaced_area{end}" for end in ("", "_low", "_high")),
    }
    assert metrics["displaced_area_low"] == pytest.approx(metrics["displaced_area_high"])  # no item differs from another
    assert all(metric(name) for name in metrics)
    value, success = displaced(model, Flat(), codes, 0.05)(codes + torch.tensor([0.0, 0.06]), torch.arange(20))
    assert value.mean().item() == pytest.approx(0.06, rel=1e-3)
    assert success.all()


def test_only_flips_are_asked_about_again(data):
    same = attack_success(Linear(), data, Flat(), Sides(), second=Third(), items=60)
    assert same["pgd_second_10"] == same["pgd_10"]  # one that finds everything wrong


def test_items_that_the_judge_does_not_know_are_not_attacked(data):
    wrong = from_tensors(data.items, "images", labels=1 - data.labels)
    assert attack_success(Linear(), wrong, Flat(), Sides()) == {"pgd_kept": 0.0}


def test_the_encoder_attack_stays_among_images(data):
    items = torch.tensor([1.0, 1.0, 1.0, 0.5]).view(4, 1, 1, 1).expand(4, 1, 1, 2)
    found = encoder_attack(Linear(), Sides(), items, torch.ones(4, dtype=torch.long), 10, 30.0, restarts=20)
    assert found["encoder_attack_10"] == 1.0  # black is as far as white can go: 4² + 1²; grey goes half as far
    assert found["encoder_attack_kl_10"] == pytest.approx((3 * 17 + 17 / 4) / 4 / 2 / 0.5, rel=1e-3)


def test_symmetric_kl_is_that_of_torch():
    stream = torch.Generator().manual_seed(1)
    p, q = (Posterior(*torch.randn(2, 5, 3, generator=stream)) for _ in range(2))
    gaussians = [torch.distributions.Normal(each.mean, (each.log_variance / 2).exp()) for each in (p, q)]
    there, back = (torch.distributions.kl_divergence(*pair).sum(1) for pair in (gaussians, gaussians[::-1]))
    torch.testing.assert_close(symmetric_kl(p, q), (there + back) / 2)


def test_the_seed_chooses_items_and_starts(data):
    one, same, other = (attack_success(Linear(), data, Flat(), Sides(), items=40, seed=s) for s in (0, 0, 1))
    assert one == same
    assert one != other


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": -1.0}, "radius: wanted a finite number >= 0"),
        ({"steps": 0}, "steps: wanted"),
        ({"restarts": 0}, "restarts: wanted"),
        ({"points": torch.full((2, 2), torch.nan)}, "points: wanted finite"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        pgd(**{"goal": bumpy(1), "points": torch.zeros(2, 2), "radius": 1.0, **change})
    data = from_tensors(torch.rand(5, 1, 1, 2), "images")
    with pytest.raises(ValueError, match="items: wanted"):
        attack_success(Linear(), data, Flat(), items=1)
