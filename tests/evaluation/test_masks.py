from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from torchvision.io import ImageReadMode, read_image

from topo_utils.evaluation.masks import betti_numbers, betti_scores

noise = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6)).map(
    lambda case: torch.rand(case[0], 1, *case[1:3], generator=torch.Generator().manual_seed(case[3]))
)


def drawn(*rows):
    """One mask of characters; # is bright."""
    return torch.tensor([[float(pixel == "#") for pixel in row] for row in rows])[None, None]


DIAMOND = drawn(".....", "..#..", ".#.#.", "..#..", ".....")
RINGS = drawn(
    "#######.###",
    "#.....#.#.#",
    "#.###.#.###",
    "#.#.#.#....",
    "#.###.#.#..",
    "#.....#....",
    "#######....",
)


def test_corners_connect_bright_pixels_or_dark_ones():
    assert betti_numbers(DIAMOND).tolist() == [[1, 1]]
    assert betti_numbers(DIAMOND, connectivity=4).tolist() == [[4, 0]]


def test_rings_within_rings_full_and_empty_masks():
    assert betti_numbers(RINGS).tolist() == betti_numbers(RINGS, connectivity=4).tolist() == [[4, 3]]
    masks = torch.stack([torch.ones(1, 3, 4), torch.zeros(1, 3, 4)])
    assert betti_numbers(masks).tolist() == [[1, 0], [0, 0]]


def test_a_bay_at_the_edge_is_no_hole():
    assert betti_numbers(drawn("#.#", "#.#", "###")).tolist() == [[1, 0]]


def test_pixels_at_the_threshold_are_bright():
    grey = torch.tensor([[[[0.2, 0.0, 0.6]]]])
    assert [betti_numbers(grey, threshold=t)[0, 0].item() for t in (0.0, 0.2, 0.21, 0.6, 0.61)] == [1, 2, 1, 1, 0]
    assert torch.equal(betti_numbers(RINGS.bool()), betti_numbers(RINGS))


def test_specks_are_removed_only_on_demand_and_before_the_holes_are_counted():
    assert betti_numbers(RINGS, min_area=1).tolist() == [[4, 3]]
    assert betti_numbers(RINGS, min_area=2).tolist() == [[3, 1]]  # a pixel, and two holes of a pixel
    assert betti_numbers(RINGS, min_area=9).tolist() == [[1, 1]]  # the small rings with their holes too
    assert betti_numbers(RINGS, min_area=100).tolist() == [[0, 0]]


@settings(deadline=None, max_examples=60)
@given(noise)
def test_four_connectivity_is_eight_connectivity_of_the_negative(masks):
    framed = torch.nn.functional.pad(masks, (1, 1, 1, 1))
    negative = betti_numbers(1 - framed, threshold=0.5)
    four = betti_numbers(framed, threshold=torch.nextafter(torch.tensor(0.5), torch.tensor(1.0)).item(), connectivity=4)
    assert torch.equal(four, torch.stack([negative[:, 1], negative[:, 0] - 1], 1))


def test_perfect_masks_score_one():
    masks = torch.cat([DIAMOND, torch.zeros_like(DIAMOND)])
    perfect = dict.fromkeys(("accuracy", "precision", "recall", "f1"), 1.0) | {"mean_absolute_error": 0.0}
    assert betti_scores(masks, torch.tensor([1, 0]), dimension=0) == perfect
    assert betti_scores(masks, torch.tensor([4, 0]), dimension=0, connectivity=4) == perfect
    assert betti_scores(masks, torch.tensor([1, 0]), dimension=1) == perfect
    assert betti_scores(masks, torch.tensor([0, 0]), dimension=1, min_area=2) == perfect


def row(components):
    """A mask of so many single pixels."""
    return drawn("#." * components + "." * (20 - 2 * components))


def test_scores_by_hand():
    counted, wanted = [1, 1, 1, 2, 7], torch.tensor([1, 2, 3, 2, 3])
    scores = betti_scores(torch.cat([row(n) for n in counted]), wanted, dimension=0)
    assert scores["accuracy"] == 0.4
    assert scores["mean_absolute_error"] == (0 + 1 + 2 + 0 + 4) / 5
    assert scores["precision"] == pytest.approx((1 / 3 + 1 + 0) / 3)  # of the classes 1, 2, 3; 7 was never wanted
    assert scores["recall"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert scores["f1"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert scores["f1"] == pytest.approx(f1_score(wanted, counted, labels=[1, 2, 3], average="macro", zero_division=0))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"masks": DIAMOND.numpy()}, TypeError, "masks: wanted a torch tensor, got ndarray"),
        ({"masks": DIAMOND[0]}, ValueError, r"masks: wanted the shape \(n, 1, h, w\) .*got \(1, 5, 5\)"),
        ({"masks": DIAMOND[:0]}, ValueError, "at least one pixel"),
        ({"masks": DIAMOND * torch.nan}, ValueError, "masks: wanted numbers, got 25 NaN"),
        ({"connectivity": 6}, ValueError, "connectivity: wanted one of 4, 8, got 6"),
        ({"min_area": -1}, ValueError, "min_area: wanted a number of pixels, 0 or more, got -1"),
        ({"dimension": 2}, ValueError, "dimension: wanted 0 <= dimension < 2, got 2"),
        ({"dimension": True}, TypeError, "dimension: wanted a whole number, got True"),
        ({"wanted": torch.tensor([1.0])}, TypeError, "wanted: wanted an int64 tensor, got torch.float32"),
        ({"wanted": [1]}, TypeError, "wanted: wanted an int64 tensor, got list"),
        ({"wanted": torch.tensor([1, 2])}, ValueError, r"one number for each of the 1 masks, got the shape \(2,\)"),
        ({"wanted": torch.tensor([-2])}, ValueError, "wanted: wanted no negative number, got -2"),
    ],
)
def test_bad_arguments_are_named(change, error, message):
    with pytest.raises(error, match=message):
        betti_scores(**({"masks": DIAMOND, "wanted": torch.tensor([1]), "dimension": 0} | change))


DIMENSION = {"coco": 0, "0-dim": 0, "cremi": 1, "roads": 1, "1-dim": 1}  # by folder; in the fifth, names hold both


@pytest.mark.parametrize(("connectivity", "wrong"), [(4, set()), (8, {"2_1_yyy.png"})])  # its outlines touch at corners
def test_topodiffusionnets_samples_have_the_numbers_in_their_names(shared_data, connectivity, wrong):
    files = sorted((shared_data / "masks" / "topodiffusionnet_samples").rglob("*.png"))
    assert len(files) == 22
    found = betti_numbers(torch.stack([read_image(str(f), ImageReadMode.GRAY) / 255 for f in files]), 0.5, connectivity)
    for file, betti in zip(files, found.tolist(), strict=True):
        dimension = DIMENSION.get(file.parent.name)
        names = [int(part) for part in file.stem.split("_") if part.isdigit()]
        counted = betti if dimension is None else [betti[dimension]]
        assert (names == counted) == (file.name not in wrong), f"{file.parent.name}/{file.name}: {betti}"
