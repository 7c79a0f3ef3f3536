"""One's own data."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest
import torch

from topo_utils import datasets, evaluation
from topo_utils.config import VAEConfig
from topo_utils.datasets import DataError, from_tensors
from topo_utils.models.features import initial_autoencoder
from topo_utils.training import fit

MINE = {
    "images": torch.rand(40, 1, 12, 12),
    "masks": (torch.rand(40, 1, 12, 12) > 0.5).float(),
    "points": torch.randn(40, 5),
    "proteins": (lambda traces: traces - traces.mean(1, keepdim=True))(torch.randn(40, 7, 3)),
    "graphs": None,
    "molecules": None,
}


def items_of(domain):
    registered = {"graphs": "social", "molecules": "nci"}
    return datasets.load(registered[domain], "train").items[:40] if MINE[domain] is None else MINE[domain]


@pytest.mark.parametrize("domain", datasets.DOMAINS)
def test_one_s_own_items_are_trained_on_evaluated_and_drawn(domain):
    train = from_tensors(items_of(domain), domain)
    validation = from_tensors(items_of(domain)[:20], domain, split="validation")
    F = initial_autoencoder(train, dimension=4, epochs=1)
    config = VAEConfig(latent_dimension=2, width=4, epochs=1, batch_size=16, cloud_size=8, gamma_latent=1.0)
    trained = fit(config, train, validation, F, progress="none")
    assert trained.origin["train"]["name"] == "mine"
    samples = evaluation.sample(trained.model, 20)
    assert "bottleneck_h0" in evaluation.evaluate_samples(samples, validation, train, F, None)
    figure, axes = plt.subplots()
    train.domain.draw(axes, train.items[0])
    plt.close(figure)


def test_points_without_a_manifold_are_drawn_in_a_plane_and_have_no_quality():
    line = from_tensors(torch.randn(10, 1), "points")
    assert line.domain.view(line.items).shape == (10, 2)
    assert line.domain.quality(line.items, line, line) == {}


def test_what_was_given_is_kept():
    items, labels = torch.rand(6, 3, 4, 4, dtype=torch.float64), torch.arange(6)
    data = from_tensors(items, "images", labels, name="photos", properties={"age": torch.ones(6)}, unit=2.0)
    torch.testing.assert_close(data.items, items.float())
    assert data.labels.tolist() == list(range(6))
    assert (data.name, data.split, data.unit, data.domain.name) == ("photos", "train", 2.0, "images")
    assert from_tensors(items, "images").labels.tolist() == [0] * 6
    assert from_tensors(items, data.domain).domain is data.domain


@pytest.mark.parametrize(
    ("items", "options", "error", "message"),
    [
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), {}, TypeError, "items: wanted float32 or float64, got torch.uint8"),
        ([[0.0]], {}, TypeError, "items: wanted a torch tensor, got list"),
        (2 * torch.ones(4, 1, 8, 8), {}, DataError, r"wanted values in \[0, 1\], got 2.0 in item 0"),
        (torch.full((4, 1, 8, 8), torch.nan), {}, DataError, "wanted finite values, got nan in item 0"),
        (torch.zeros(4, 8, 8), {}, DataError, r"wanted images \(n, 1 or 3, height, width\), got \(4, 8, 8\)"),
        (torch.zeros(4, 1, 8, 8), {"domain": "pictures"}, ValueError, "domain: wanted one of 'images'"),
        (torch.zeros(4, 1, 8, 8), {"name": "digits"}, ValueError, "name: wanted one that is not taken, got 'digits'"),
        (torch.zeros(4, 1, 8, 8), {"split": "dev"}, ValueError, "split: wanted one of 'train'"),
        (torch.zeros(4, 1, 8, 8), {"labels": torch.zeros(3, dtype=torch.int64)}, DataError, "wanted 4 int64 labels"),
    ],
)
def test_what_cannot_be_a_data_set_is_named(items, options, error, message):
    with pytest.raises(error, match=message):
        from_tensors(items, **{"domain": "images", **options})


def test_the_digest_names_the_content_and_its_form():
    items = torch.rand(6, 1, 4, 4)
    others = [
        from_tensors(items.flip(0), "images"),
        from_tensors(items.view(6, 1, 2, 8), "images"),
        from_tensors(items, "images", torch.arange(6)),
        from_tensors(items, "images", split="test"),
        from_tensors(items, "images", properties={"age": torch.ones(6)}),
        from_tensors(items, "images", unit=2.0),
    ]
    digests = {from_tensors(items, "images").digest, *(each.digest for each in others)}
    assert len(digests) == 7
    assert from_tensors(items.clone(), "images").digest in digests
