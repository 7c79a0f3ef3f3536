from __future__ import annotations

import hashlib

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from topo_utils.datasets import DataError, Dataset
from topo_utils.datasets.images import Images
from topo_utils.datasets.masks import SOURCES, Masks, make_masks
from topo_utils.seed import generator
from topo_utils.topology import betti_numbers, cubical_persistence

BY_NAME = {source.name: source for source in SOURCES}
pairs = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=4)


def by_gudhi(masks):
    """Betti numbers of masks as bars of their cubical persistence: all bars of a mask are born at 1 and die at 0."""
    diagrams = cubical_persistence(masks[:, 0], sublevel=False, essential="cap")
    return torch.stack([diagram.mask.sum(-1) for diagram in diagrams], dim=1)


@pytest.fixture(scope="module", params=BY_NAME)
def splits(request):
    """All splits of a source."""
    return {split: BY_NAME[request.param].load(split) for split in BY_NAME[request.param].sizes}


def test_the_betti_numbers_are_exact(splits):
    data = splits["validation"]
    betti = data.properties["betti"]
    assert torch.equal(by_gudhi(data.items[:100]), betti[:100])
    assert torch.equal(data.domain.betti(data.items), betti)
    assert torch.equal(betti_numbers(data.items, connectivity=4), betti)  # no pixels touch at a corner alone
    assert torch.equal(data.labels, betti[:, 1])


def test_all_pairs_of_betti_numbers_are_equally_frequent(splits):
    largest = {"masks": (6, 6), "masks-28": (4, 4)}[splits["train"].name]
    for data in splits.values():
        betti = data.properties["betti"]
        kinds, counts = betti.unique(dim=0, return_counts=True)
        assert len(kinds) == largest[0] * (largest[1] + 1)
        assert counts.max() - counts.min() <= 1
        assert betti.amin(0).tolist() == [1, 0]
        assert tuple(betti.amax(0).tolist()) == largest


def test_no_mask_is_made_twice(splits):
    keys = [hashlib.sha256(item.numpy().tobytes()).digest() for data in splits.values() for item in data.items]
    assert len(keys) == 6500
    assert len(set(keys)) == len(keys)


def test_a_source_gives_the_same_masks_each_time(splits):
    again = BY_NAME[splits["test"].name].load("test")
    assert again.digest == splits["test"].digest


def test_components_keep_their_distance_to_each_other_and_to_the_edge(splits):
    masks = splits["validation"].items
    assert not masks[..., [0, -1], :].any()
    assert not masks[..., [0, -1]].any()
    grown = torch.nn.functional.max_pool2d(masks, 2, stride=1)  # by a pixel to one side: one of the two between is left
    assert torch.equal(Masks().betti(grown)[:, 0], splits["validation"].properties["betti"][:, 0])


@settings(deadline=None, max_examples=20)
@given(pairs, st.integers(0, 10**6))
def test_masks_have_the_betti_numbers_that_were_asked_for(betti, seed):
    betti = torch.tensor(betti)
    masks = make_masks(betti, 64, generator(seed))
    assert masks.shape == (len(betti), 1, 64, 64)
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(by_gudhi(masks), betti)
    assert torch.equal(masks, make_masks(betti, 64, generator(seed)))


def test_an_empty_mask_may_be_asked_for():
    masks = make_masks(torch.tensor([[0, 0], [1, 2]]), 32, generator(0))
    assert not masks[0].any()
    assert Masks().betti(masks).tolist() == [[0, 0], [1, 2]]


@pytest.mark.parametrize(
    ("betti", "message"),
    [
        (torch.tensor([[3, 1], [9, 9]]), r"9 components with 9 holes did not fit into 20 × 20 pixels"),
        (torch.tensor([[0, 1]]), r"got \[0, 1\]"),
        (torch.tensor([[1, -1]]), r"got \[1, -1\]"),
        (torch.tensor([1, 1]), r"wanted int64 numbers \(n, 2\)"),
        (torch.tensor([[1.0, 1]]), r"got torch.float32"),
        (torch.zeros(0, 2, dtype=torch.int64), "n ≥ 1"),
    ],
)
def test_what_cannot_be_made_is_refused(betti, message):
    with pytest.raises(ValueError, match=message):
        make_masks(betti, 20, generator(0))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.floats(0.1, 0.9), st.integers(1, 9), st.integers(1, 9))
def test_counting_agrees_with_persistence_on_any_mask(seed, share, height, width):
    masks = (torch.rand(3, 1, height, width, generator=generator(seed)) < share).float()
    alive = cubical_persistence(masks[:, 0], sublevel=False)  # without the component that never dies
    expected = torch.stack([alive[0].mask.sum(-1) + masks.flatten(1).any(1), alive[1].mask.sum(-1)], 1)
    assert torch.equal(Masks().betti(masks), expected)


def test_probabilities_are_rounded():
    mask = make_masks(torch.tensor([[2, 3]]), 64, generator(0))
    assert Masks().betti(0.2 + 0.5 * mask).tolist() == [[2, 3]]
    assert Masks().betti(0.4 * mask).tolist() == [[0, 0]]
    assert Images().betti(0.2 + 0.5 * mask).tolist() == [[2, 3]]


def test_a_dataset_refuses_what_is_no_mask():
    with pytest.raises(DataError, match=r"wanted only 0 and 1, got 0\.5"):
        Dataset("made", "train", Masks(), torch.full((1, 1, 4, 4), 0.5), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(DataError, match=r"wanted masks \(n, 1, height, width\), got \(1, 3, 4, 4\)"):
        Dataset("made", "train", Masks(), torch.zeros(1, 3, 4, 4), torch.zeros(1, dtype=torch.int64))


def test_the_drawing_is_the_mask():
    mask = make_masks(torch.tensor([[2, 3]]), 64, generator(0))[0]
    _, axes = plt.subplots()
    Masks().draw(axes, mask)
    np.testing.assert_array_equal(axes.images[0].get_array(), mask[0])
    assert not len(axes.get_xticks())
    plt.close()


@pytest.mark.parametrize(("folder", "dimension", "count"), [("0-dim", 0, 3), ("1-dim", 1, 4)])
def test_the_samples_of_topodiffusionnet_have_the_number_in_their_names(shared_data, folder, dimension, count):
    files = list((shared_data / "masks" / "topodiffusionnet_samples" / "shapes" / folder).iterdir())
    assert len(files) == count
    for file in files:
        mask = torch.from_numpy(np.asarray(Image.open(file).convert("L")) / 255).float()
        assert Masks().betti(mask[None, None])[0, dimension] == int(file.stem.split("_")[0])
