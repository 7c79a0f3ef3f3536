"""How samples are made, and which are refused."""

from __future__ import annotations

import importlib
import pkgutil
import types
from dataclasses import replace

import pytest
import torch
from torch import nn

import topo_utils
from topo_utils import evaluation
from topo_utils.datasets import load
from topo_utils.models.diffusion import Diffusion
from topo_utils.models.features import Identity
from topo_utils.models.unet import ResidualMLP, UNet
from topo_utils.models.vae import VAE
from topo_utils.seed import generator


def conditional():
    model = Diffusion(ResidualMLP((7,), 16, classes=3), (7,)).eval()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.1)
    return model


def test_a_vae_decodes_normal_codes_of_the_stream_of_samples():
    model = VAE((1, 28, 28), 5, width=8).eval()
    codes = torch.randn(700, 5, generator=generator(3, "samples"))
    with torch.no_grad():
        assert torch.equal(evaluation.sample(model, 700, 3), model.decode(codes))
    assert torch.equal(model.sample(700, generator(3, "samples")), evaluation.sample(model, 700, 3))
    assert not model.sample(2).requires_grad


def test_the_stream_of_samples_stays_as_it_was():
    """Published samples are made of these numbers."""
    drawn = evaluation.sample(_Noise(), 4, seed=7).flatten().tolist()
    assert drawn == pytest.approx(NOISE, abs=1e-6)


class _Noise(nn.Module):
    def sample(self, count, generator=None, condition=None):
        return torch.randn(count, 1, generator=generator)


NOISE = [1.933043, 1.093663, 0.728227, -1.457415]


@pytest.mark.parametrize("count", [3, 500, 1203])
def test_a_diffusion_model_makes_five_hundred_at_a_time(count):
    model, stream = conditional(), generator(2, "samples")
    asked = torch.arange(count) % 3
    parts = [model.sample(len(part), stream, condition=part) for part in asked.split(500)]
    assert torch.equal(evaluation.sample(model, count, 2, asked), torch.cat(parts))


def test_the_trajectories_of_many_items_lie_side_by_side():
    model, asked = conditional(), torch.arange(503) % 3
    items, estimates = model.sample(503, generator(0), steps=4, churn=1.0, condition=asked, trajectory=True)
    assert estimates.shape == (4, 503, 7)
    torch.testing.assert_close(items, estimates[-1])  # the last step goes to what is estimated
    assert torch.equal(items, model.sample(503, generator(0), steps=4, churn=1.0, condition=asked))


def test_samples_of_a_diffusion_model(digits):
    model = Diffusion(UNet((1, 28, 28), 8), (1, 28, 28)).fit_scale(digits[0].items)
    samples = evaluation.sample(model, 3, seed=1)
    assert samples.shape == (3, 1, 28, 28)
    assert torch.equal(samples, evaluation.sample(model, 3, seed=1))
    assert not torch.equal(samples, evaluation.sample(model, 3, seed=2))


def test_counts_and_conditions_that_do_not_fit_are_named():
    model, asked = conditional(), torch.arange(502) % 3
    with pytest.raises(ValueError, match=r"condition: wanted one class for each of 4 items, got \(502,\)"):
        evaluation.sample(model, 4, condition=asked)
    with pytest.raises(ValueError, match=r"condition: wanted one class for each of 502 items, got \(4,\)"):
        evaluation.sample(model, 502, condition=asked[:4])
    with pytest.raises(ValueError, match=r"condition: wanted one class for each of 2 items, got \[0, 1\]"):
        evaluation.sample(model, 2, condition=[0, 1])
    with pytest.raises(ValueError, match="condition: wanted None for a VAE"):
        evaluation.sample(VAE((2,), 2, "points", 4), 4, condition=asked[:4])
    for each in (model, VAE((2,), 2, "points", 4)):
        with pytest.raises(ValueError, match="count: wanted at least 1, got 0"):
            evaluation.sample(each, 0)
        with pytest.raises(ValueError, match="count: wanted at least 1, got 0"):
            each.sample(0)
        with pytest.raises(TypeError, match=r"count: wanted a whole number, got 2\.0"):
            each.sample(2.0)


# --- what is refused, for every domain


class Untouched(nn.Module):
    """Fails when it is asked for anything: nothing may be computed before the arguments are checked."""

    def features(self, x):
        raise AssertionError("computed before the check")

    forward = encode = decode = sample = features


@pytest.fixture(scope="module", params=["digits", "masks-28", "nci", "adk", "social", "torus"])
def data(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOPO_HOME", str(tmp_path_factory.mktemp(request.param)))
        everything = load(request.param, "test")
    return everything.take(torch.arange(min(6, len(everything))))


def spoiled(items, value):
    flat = items.flatten(1).clone()
    flat[1, -1] = value
    return flat.view(items.shape)


BAD = {
    "inf": (lambda items: torch.full_like(items, torch.inf), ValueError, "samples: wanted finite values, got inf"),
    "one inf": (lambda items: spoiled(items, -torch.inf), ValueError, "samples: wanted finite values, got -inf"),
    "NaN": (lambda items: spoiled(items, torch.nan), ValueError, "samples: wanted finite values, got nan"),
    "empty": (lambda items: items[:0], ValueError, "samples: wanted the shape .* got .0, "),
    "one item": (lambda items: items[0], ValueError, "samples: wanted the shape"),
    "another shape": (lambda items: items[..., :-1], ValueError, "samples: wanted the shape"),
    "float64": (lambda items: items.double(), TypeError, "samples: wanted float32, got torch.float64"),
    "complex": (
        lambda items: items.to(torch.complex64),
        TypeError,
        "samples: wanted float32 or float64, got torch.complex64",
    ),
    "whole": (lambda items: items.long(), TypeError, "samples: wanted float32 or float64, got torch.int64"),
    "numpy": (lambda items: items.numpy(), TypeError, "samples: wanted a torch tensor, got ndarray"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_samples_are_refused_before_anything_is_computed(data, kind):
    spoil, error, message = BAD[kind]
    with pytest.raises(error, match=message):
        evaluation.sample_quality(spoil(data.items), data, data)
    with pytest.raises(error, match=message):
        evaluation.evaluate_samples(spoil(data.items), data, data, Untouched(), Untouched())


def test_items_of_another_kind_are_refused_before_anything_is_computed(data):
    other = load("circle" if data.name != "circle" else "torus", "train", limit=5)
    scaled = replace(data, unit=2 * data.unit)
    for train in (other, scaled):
        with pytest.raises(ValueError, match=r"train: wanted items as those of data \(domain .*, got "):
            evaluation.sample_quality(data.items, data, train)
        with pytest.raises(ValueError, match="train: wanted items as those of data"):
            evaluation.evaluate_samples(data.items, data, train, Untouched(), Untouched())
        with pytest.raises(ValueError, match="train: wanted items as those of data"):
            evaluation.evaluate(Untouched(), data, train, Untouched(), Untouched())


def test_too_few_items_are_refused():
    data = load("circle", "test", limit=6)
    with pytest.raises(ValueError, match=r"data: wanted at least 6 items, .*got 3"):
        evaluation.evaluate(Untouched(), data.take(torch.arange(3)), data, Identity(), None)
    with pytest.raises(ValueError, match=r"samples: wanted the shape \(n, 2\) with n >= 3, got \(1, 2\)"):
        evaluation.evaluate_samples(data.items[:1], data, data, Identity(), None)


@pytest.mark.parametrize("measure", [evaluation.reconstruction, evaluation.cycle_error])
def test_bad_items_are_refused(measure):
    model, items = VAE((2,), 2, "points", 4), torch.randn(5, 2)
    with pytest.raises(ValueError, match="items: wanted finite values, got nan"):
        measure(model, spoiled(items, torch.nan))
    with pytest.raises(ValueError, match="items: wanted the shape"):
        measure(model, items[:0])
    with pytest.raises(TypeError, match=r"items: wanted float32, got torch\.float64"):
        measure(model, items.double())


def test_bad_paths_are_named():
    model, items = VAE((2,), 2, "points", 4), torch.randn(5, 2)
    with pytest.raises(ValueError, match="pairs: wanted at least 1, got 0"):
        evaluation.cycle_error(model, items, pairs=0)
    with pytest.raises(TypeError, match=r"steps: wanted a whole number, got 3\.5"):
        evaluation.cycle_error(model, items, steps=3.5)
    with pytest.raises(ValueError, match="n >= 2"):
        evaluation.cycle_error(model, items[:1])


def test_no_function_hides_a_module_of_its_package():
    packages = [topo_utils, *_packages(topo_utils)]
    for package in packages:
        for module in pkgutil.iter_modules(package.__path__):
            if module.name.startswith("__"):
                continue
            importlib.import_module(f"{package.__name__}.{module.name}")
            assert isinstance(getattr(package, module.name), types.ModuleType), f"{package.__name__}.{module.name}"


def _packages(parent):
    for module in pkgutil.iter_modules(parent.__path__):
        if module.ispkg:
            package = importlib.import_module(f"{parent.__name__}.{module.name}")
            yield package
            yield from _packages(package)
