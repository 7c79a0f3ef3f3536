from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from topo_utils.evaluation.masks import betti_numbers
from topo_utils.seed import generator
from topo_utils.topology import cubical_persistence
from topo_utils.topology.betti import BettiLoss

FORMS = ("paper", "code")
LENGTHS = ((0.9, 0.1), (0.8, 0.2), (0.6, 0.3))  # birth and death of the bars of the hand-made masks


def blobs(size=14, count=2):
    mask = torch.zeros(size, size, dtype=torch.float64)
    for row, column in ((2, 2), (8, 8), (2, 9))[:count]:
        mask[row : row + 4, column : column + 4] = 1
    return mask[None, None]


def sheet(size=14, count=2):
    """A square with holes."""
    mask = torch.zeros(size, size, dtype=torch.float64)
    mask[1:-1, 1:-1] = 1
    for row, column in ((3, 3), (8, 8), (3, 8))[:count]:
        mask[row : row + 3, column : column + 3] = 0
    return mask[None, None]


def peaks():
    """A row of pixels: H0 has the bar from 1 that never dies and (0.9, 0.1), (0.8, 0.2), (0.6, 0.3)."""
    return torch.tensor([[[[1.0, 0.1, 0.9, 0.2, 0.8, 0.3, 0.6]]]], dtype=torch.float64)


def pits():
    """Three dark pixels in a bright sheet: H1 has the bars (0.9, 0.1), (0.8, 0.2), (0.6, 0.3), each in its own ring."""
    mask = torch.full((5, 15), 0.0, dtype=torch.float64)
    for i, (birth, death) in enumerate(LENGTHS):
        mask[1:4, 5 * i + 1 : 5 * i + 4] = birth
        mask[2, 5 * i + 2] = death
    return mask[None, None] + 1e-6 * torch.arange(75).view(5, 15)  # no ties


@pytest.mark.parametrize("c", range(5))
def test_the_papers_form_of_known_diagrams(c):
    for mask, bars, dimension in ((peaks(), ((1.0, 0.0), *LENGTHS), 0), (pits(), LENGTHS, 1)):
        squares = [(b - d) ** 2 for b, d in bars]
        loss = BettiLoss("paper", dimension)(mask, torch.tensor([c]))
        assert loss.item() == pytest.approx(sum(squares[c:]) - sum(squares[:c]), abs=1e-3)
        loss = BettiLoss("paper", dimension, suppress=False)(mask, torch.tensor([c]))
        assert loss.item() == pytest.approx(-sum(squares[:c]), abs=1e-3)


@pytest.mark.parametrize("c", range(5))
def test_the_codes_form_of_known_diagrams(c):
    for mask, bars, dimension in ((peaks(), ((1.0, 0.0), *LENGTHS), 0), (pits(), LENGTHS, 1)):
        kept = sum((b - 1) ** 2 + d**2 for b, d in bars[:c])
        loss = BettiLoss("code", dimension)(mask, torch.tensor([c]))
        assert loss.item() == pytest.approx(kept + sum(2 * (b - d) ** 2 for b, d in bars[c:]), abs=1e-3)
        loss = BettiLoss("code", dimension, suppress=False)(mask, torch.tensor([c]))
        assert loss.item() == pytest.approx(kept, abs=1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_descent_lengthens_the_cth_bar_shortens_the_next_and_touches_critical_pixels_only(form):
    mask = peaks().requires_grad_()
    BettiLoss(form, 0)(mask, torch.tensor([2])).backward()
    descent = -mask.grad.flatten()
    assert descent[2] > 0 > descent[1]  # (0.9, 0.1) grows
    assert descent[4] < 0 < descent[3]  # (0.8, 0.2) shrinks
    mask = pits().requires_grad_()
    BettiLoss(form, 1)(mask, torch.tensor([1])).backward()
    descent = -mask.grad[0, 0]
    assert descent[2, 2] < 0 < descent[1:4, 1:4].max()  # (0.9, 0.1)
    assert descent[2, 7] > 0 > descent[1:4, 6:9].min()  # (0.8, 0.2)
    assert descent.count_nonzero() == 6  # birth and death of three bars


@pytest.mark.parametrize("connectivity", [4, 8])
def test_both_forms_suppress_with_the_same_gradient(connectivity):
    masks = torch.rand(3, 1, 6, 7, dtype=torch.float64, requires_grad=True)
    none = torch.zeros(3, dtype=torch.int64)
    losses = [BettiLoss(form, 1, connectivity=connectivity)(masks, none) for form in FORMS]
    first, second = (torch.autograd.grad(loss, masks)[0] for loss in losses)
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dimension", [0, 1])
def test_gradcheck(form, dimension):
    masks = torch.rand(2, 1, 5, 6, dtype=torch.float64, generator=generator(3)).requires_grad_()
    betti = torch.tensor([1, 3])
    if form == "paper":
        assert torch.autograd.gradcheck(lambda x: BettiLoss(form, dimension).per_item(x, betti), masks)
    else:  # where values are held fixed, differences of the loss itself are not its gradient
        assert torch.autograd.gradcheck(lambda x: BettiLoss(form, dimension, suppress=False).per_item(x, betti), masks)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("draw", "dimension"), [(blobs, 0), (sheet, 1)])
def test_a_clean_mask_with_the_right_number_has_the_least_loss_and_one_too_many_costs(form, draw, dimension):
    loss = BettiLoss(form, dimension)
    betti = torch.tensor([1, 2, 3])
    clean = torch.cat([draw(count=c) for c in betti.tolist()])
    least = -betti.double() if form == "paper" else torch.zeros(3, dtype=torch.float64)
    assert torch.equal(loss.per_item(clean, betti), least)
    assert (loss.per_item(clean, betti - 1) > least + 1).all()
    missing = loss.per_item(clean, betti + 1)
    assert torch.equal(missing, least)  # all bars that there are are kept; neither form sees what is not there
    assert (loss.per_item(torch.rand_like(clean), betti) > least).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("draw", "dimension"), [(blobs, 0), (sheet, 1)])
@pytest.mark.parametrize("c", [0, 1, 3])
def test_descent_from_two_reaches_the_wanted_number(form, draw, dimension, c):
    noise = 0.2 * torch.randn(2, 1, 14, 14, dtype=torch.float64, generator=generator(0, "descent"))
    masks = (0.2 + 0.6 * draw() + noise).requires_grad_()
    betti = torch.full((2,), c)
    loss, optimizer = BettiLoss(form, dimension), torch.optim.Adam([masks], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss.per_item(masks, betti).sum().backward()
        optimizer.step()
    assert betti_numbers(masks, connectivity=loss.connectivity)[:, dimension].tolist() == [c] * 2


def test_the_codes_matching_is_the_cheapest():
    masks = torch.rand(6, 1, 7, 7, dtype=torch.float64) * torch.linspace(0.3, 1, 6, dtype=torch.float64).view(-1, 1, 1, 1)
    betti = torch.tensor([1, 2, 3, 4, 6, 9])
    matched = BettiLoss("code", 1, suppress=False).per_item(masks, betti)
    for mask, c, loss in zip(masks, betti.tolist(), matched.tolist(), strict=True):
        bars = -cubical_persistence(mask[0], sublevel=False, connectivity=4)[1].points.numpy()
        scaled = (bars - mask.min().item()) / (mask.max() - mask.min()).item()
        pair = np.maximum(1 - scaled[:, :1], scaled[:, 1:]).repeat(c, 1)
        alone = np.diff(-scaled, axis=1).repeat(len(bars), 1) / 2
        costs = np.block([[pair, alone], [np.full((c, c), 0.5), np.zeros((c, len(bars)))]])
        chosen = [row for row, column in zip(*linear_sum_assignment(costs), strict=True) if row < len(bars) and column < c]
        assert loss == pytest.approx(sum((b - 1) ** 2 + d**2 for b, d in bars[chosen]))


def test_the_codes_form_leaves_a_faint_bar_unmatched():
    mask = torch.tensor([[[[1.0, 0.0, 0.3, 0.2]]]], dtype=torch.float64, requires_grad=True)
    BettiLoss("code", 0)(mask, torch.tensor([2])).backward()
    assert mask.grad[..., 2] > 0  # goes down
    mask.grad = None
    BettiLoss("paper", 0)(mask, torch.tensor([2])).backward()
    assert mask.grad[..., 2] < 0  # goes up


@pytest.mark.parametrize("form", FORMS)
def test_values_beyond_the_range_count_as_clamped_and_are_pulled_back_only(form):
    loss = BettiLoss(form, 0)
    mask = torch.tensor([[[[1.3, -0.2, 1.2, -0.1, 1.1]]]], dtype=torch.float64, requires_grad=True)
    for c in range(4):
        assert torch.equal(loss(mask, torch.tensor([c])), loss(mask.clamp(0, 1), torch.tensor([c])))
    loss(mask, torch.tensor([3])).backward()
    assert not mask.grad.any()
    loss(mask, torch.tensor([2])).backward()
    assert mask.grad[0, 0, 0, 3] < 0 < mask.grad[0, 0, 0, 4]
    assert mask.grad.count_nonzero() == 2


@pytest.mark.parametrize("form", FORMS)
def test_flat_masks(form):
    for grey in (0.0, 0.6, 1.0):
        flat = torch.full((3, 1, 4, 5), grey, requires_grad=True)
        loss = BettiLoss(form, 0)
        loss(flat, torch.tensor([0, 1, 4])).backward()
        assert flat.grad.isfinite().all()
        assert (flat.grad[0] > 0).any() == (grey > 0)  # no component: darker
        assert (flat.grad[1] < 0).any() == (0 < grey < 1 or (form == "paper" and grey == 1))
        assert BettiLoss(form, 1)(flat, torch.tensor([0, 1, 4])).item() == 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dimension", [0, 1])
def test_a_batch_is_its_masks_one_by_one_in_any_order(form, dimension):
    masks, betti = torch.rand(5, 1, 8, 9), torch.tensor([0, 1, 2, 5, 40])
    loss = BettiLoss(form, dimension)
    each = loss.per_item(masks, betti)
    alone = [loss(mask[None], c[None]).item() for mask, c in zip(masks, betti, strict=True)]
    assert each.tolist() == pytest.approx(alone)
    order = torch.randperm(5)
    torch.testing.assert_close(loss.per_item(masks[order], betti[order]), each[order])
    assert loss(masks, betti).item() == pytest.approx(each.mean().item())


def test_half_precision_is_computed_in_float32():
    masks = torch.rand(2, 1, 8, 8).bfloat16().requires_grad_()
    loss = BettiLoss()(masks, torch.tensor([1, 2]))
    loss.backward()
    assert loss.dtype == torch.float32
    assert masks.grad.dtype == torch.bfloat16


MASKS, BETTI = torch.rand(2, 1, 4, 4), torch.tensor([1, 2])


@pytest.mark.parametrize(
    ("masks", "betti", "error", "message"),
    [
        (MASKS.numpy(), BETTI, TypeError, "masks: wanted a torch tensor, got ndarray"),
        (MASKS.int(), BETTI, TypeError, "masks: wanted float32 or float64"),
        (MASKS[:, 0], BETTI, ValueError, r"masks: wanted the shape \(batch, 1, h, w\) .*got \(2, 4, 4\)"),
        (MASKS[:0], BETTI[:0], ValueError, "at least one pixel"),
        (MASKS * torch.nan, BETTI, ValueError, "wanted finite values"),
        (MASKS, [1, 2], TypeError, "betti: wanted a torch tensor, got list"),
        (MASKS, BETTI.float(), TypeError, "betti: wanted int64, got torch.float32"),
        (MASKS, BETTI.numpy(), TypeError, "betti: wanted a torch tensor, got ndarray"),
        (MASKS, BETTI[:1], ValueError, r"betti: wanted one number for each of the 2 masks, got the shape \(1,\)"),
        (MASKS, -BETTI, ValueError, "betti: wanted no negative number, got -2"),
    ],
)
def test_bad_masks_and_numbers_are_named(masks, betti, error, message):
    with pytest.raises(error, match=message):
        BettiLoss()(masks, betti)


CORNER, RING = torch.eye(2).double(), torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]).double()


@pytest.mark.parametrize(
    ("mask", "dimension", "counts"), [(CORNER, 0, {8: 1, 4: 2}), (RING, 0, {8: 1, 4: 4}), (RING, 1, {8: 1, 4: 0})]
)
@pytest.mark.parametrize("form", FORMS)
def test_bars_are_those_of_the_connectivity_and_each_form_has_its_own(form, mask, dimension, counts):
    masks, none = mask[None, None], torch.tensor([0])
    a_bar = 1.0 if form == "paper" else 2.0  # what suppressing a bar from 1 to 0 costs
    for connectivity, count in counts.items():
        assert betti_numbers(masks, connectivity=connectivity)[0, dimension] == count
        assert BettiLoss(form, dimension, connectivity=connectivity)(masks, none) == count * a_bar
    assert BettiLoss(form, dimension)(masks, none) == counts[{"paper": 8, "code": 4}[form]] * a_bar


def test_bad_options_are_named():
    with pytest.raises(ValueError, match="form: wanted one of 'paper', 'code', got 'both'"):
        BettiLoss("both")
    with pytest.raises(ValueError, match="dimension: wanted one of 0, 1, got 2"):
        BettiLoss(dimension=2)
    with pytest.raises(ValueError, match="connectivity: wanted one of 4, 8, None, got 6"):
        BettiLoss(connectivity=6)
