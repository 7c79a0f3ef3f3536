"""The topological loss of TopoDiffusionNet (Gupta, Samaras & Chen, ICLR 2025, arXiv:2410.16646).

A diffusion model of masks is asked for a Betti number c: so many components, or so many holes. Its training loss is
L_simple + λ L_top, and L_top looks at the persistence diagram of the predicted clean mask x̂₀. Paper and released code
(Saumya-Gupta-26/TopoDiffusionNet, ``improved_diffusion/topoloss_normal.py``) differ, so :class:`BettiLoss` has both forms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from topo_utils.topology._autograd import differentiable_once
from topo_utils.topology.checks import check_dtype, check_floating, check_option
from topo_utils.topology.cubical import cubical_persistence

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


class BettiLoss(nn.Module):
    """L_top of predicted clean masks that ought to have c components or c holes.

    Bright pixels enter first. A bar is born at the grey value b of one pixel and dies at the lower value d of another, and
    only these two pixels get a gradient. Values count as clamped to [0, 1]; a value beyond is still pulled back, but never
    pushed further out (the released code clamps too, and its gradient is zero beyond).

    H0's oldest component never dies. It counts as a bar from the brightest pixel down to 0, so that every threshold below
    that pixel sees it; with c ≥ 1 it is the first bar to be kept. Its end is no pixel and gets no gradient (in the released
    code neither).

    ``form="paper"``: Σ_Q (b - d)² - Σ_P (b - d)² = L_denoise + L_preserve, where P are the c most persistent bars and Q the
    others. The least value is -c. The two terms, P and Q are described in the paper's figure 3; its formulas were not at
    hand, and the squares are recollected, not checked.

    ``form="code"``: bars are matched with the diagram of the true mask, at the least 1-Wasserstein cost, after x̂₀ has been
    scaled to [0, 1]. A true mask is binary, so that its diagram is c times the bar from 1 down to 0, and only c matters.
    The pixels of a matched bar are drawn to those values, those of any other bar to each other:
    Σ_P ((b - 1)² + d²) + Σ_Q ((b - d*)² + (b* - d)²), where * holds a value fixed. The least value is 0. Bars too far from
    that bar are not matched, and what is missing costs nothing: the loss of a crisp mask that lacks a component or a hole
    is 0. This is not the released code to the letter:

    - Its pixels lie in [-1, 1], so that its values are four times ours.
    - It counts a pixel that is critical for two bars once; here it counts for both.
    - It ignores masks with c = 0; here all their bars are suppressed.

    Parameters
    ----------
    form
        ``"paper"`` or ``"code"``.
    dimension
        0: betti are numbers of components; 1: of holes.
    suppress
        Whether the sum over Q is there. The command in the released code's README leaves it out (``--topo_noisy False``).
    connectivity
        Of the bright pixels, as for :func:`~topo_utils.topology.cubical_persistence`. None is that of the form: 4 for
        ``"code"``, because the released code connects pixels at their sides only (it calls ``cripser.computePH``); 8 for
        ``"paper"``, as everywhere in this package. Masks that this loss made are to be counted with the same one:
        :func:`~topo_utils.topology.betti_numbers` takes 8 unless it is told 4. Generated true masks have the same Betti
        numbers with either.

    Raises
    ------
    ValueError
        An option has an unknown value.

    Notes
    -----
    Nearly all the time goes into gudhi's pairing on the CPU: about a millisecond for a mask of 28 × 28 pixels.

    Examples
    --------
    >>> masks = torch.rand(8, 1, 28, 28, requires_grad=True)
    >>> BettiLoss("paper", dimension=1)(masks, torch.randint(4, (8,))).backward()
    """

    def __init__(self, form: str = "paper", dimension: int = 0, suppress: bool = True, connectivity: int | None = None):
        super().__init__()
        check_option("form", form, ("paper", "code"))
        check_option("dimension", dimension, (0, 1))
        check_option("suppress", suppress, (True, False))
        check_option("connectivity", connectivity, (4, 8, None))
        self.form, self.dimension, self.suppress = form, dimension, suppress
        self.connectivity = connectivity or {"paper": 8, "code": 4}[form]

    def forward(self, masks: Float[Tensor, "batch 1 h w"], betti: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Mean of :meth:`per_item` over the batch."""
        return self.per_item(masks, betti).mean()

    def per_item(self, masks: Float[Tensor, "batch 1 h w"], betti: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Loss of each mask.

        Parameters
        ----------
        masks
            Predicted clean masks, finite, bright is 1 and dark is 0; half precision is computed in float32.
        betti
            Wanted Betti number c of each mask, not negative. Where a mask has fewer bars, the rest of c has no effect.

        Raises
        ------
        TypeError, ValueError
            ``masks`` or ``betti`` are not such tensors.
        """
        masks = _checked(masks, betti)
        images, betti = masks.squeeze(1), betti.to(masks.device)
        births, deaths = self._bars(images)
        if self.form == "paper":
            kept = _highest(births - deaths, betti)
            noise = (births - deaths).square()
            structure = -noise
        else:
            kept = _matched(births, deaths, images, betti)
            noise = (births - deaths.detach()).square() + (births.detach() - deaths).square()
            structure = (births - 1).square() + deaths.square()
        return torch.where(kept, structure, noise if self.suppress else 0).sum(1)

    def _bars(self, images: Float[Tensor, "batch h w"]) -> tuple[Float[Tensor, "batch p"], Float[Tensor, "batch p"]]:
        """Births and deaths as grey values in [0, 1], birth >= death; padding has both 0."""
        diagram = cubical_persistence(images, sublevel=False, connectivity=self.connectivity)[self.dimension]
        births, deaths = (-diagram.points).unbind(-1)
        if self.dimension == 0:
            brightest = images.flatten(1).max(1, keepdim=True).values
            births = torch.cat([brightest, births], 1)
            deaths = torch.cat([torch.zeros_like(brightest), deaths], 1)
        return _Clamp.apply(births), _Clamp.apply(deaths)


class _Clamp(torch.autograd.Function):
    """Clamp to [0, 1] with the gradient of the identity, save where descent would push a value further out.

    torch's gradient beyond the range is zero: a crisp component too many, brighter than 1 on a ground below 0, would stay.
    """

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return values.clamp(0, 1)

    @staticmethod
    @differentiable_once
    def backward(ctx, gradient: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        outward = ((values > 1) & (gradient < 0)) | ((values < 0) & (gradient > 0))
        return gradient.masked_fill(outward, 0)


def _highest(scores: Float[Tensor, "batch p"], count: Int[Tensor, " batch"]) -> Bool[Tensor, "batch p"]:
    """Where the ``count`` highest scores of each row are; of equal ones, the first."""
    ranks = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return ranks < count[:, None]


@torch.no_grad()
def _matched(births: Tensor, deaths: Tensor, images: Tensor, betti: Int[Tensor, " batch"]) -> Bool[Tensor, "batch p"]:
    """Which bars the cheapest matching (1-Wasserstein, maximum norm) pairs with c copies of the bar from 1 to 0.

    A pair costs max(1 - b, d); unpaired, the bar costs (b - d)/2 and the copy 1/2. All copies are the same, so that the
    bars with the c largest savings are paired, as far as these are positive: never padding, for which b = d.
    """
    values = images.flatten(1).clamp(0, 1)
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    low, high = low.where(low < high, 0), high.where(low < high, 1)  # a flat mask stays as it is
    births, deaths = [
        ((ends - low) / (high - low)).clamp(0, 1) for ends in (births, deaths)
    ]  # 0 is below the darkest pixel
    saving = (births - deaths + 1) / 2 - torch.maximum(1 - births, deaths)
    return _highest(saving, betti) & (saving > 0)


def _checked(masks: Tensor, betti: Tensor) -> Float[Tensor, "batch 1 h w"]:
    """The masks, in single precision at least."""
    if isinstance(masks, Tensor) and masks.dtype in (torch.float16, torch.bfloat16):  # as autocast leaves them
        masks = masks.float()
    check_floating("masks", masks)
    if masks.ndim != 4 or masks.shape[1] != 1 or not masks.numel():
        raise ValueError(f"masks: wanted the shape (batch, 1, h, w) with at least one pixel, got {tuple(masks.shape)}")
    check_dtype("betti", betti, torch.int64)
    if betti.shape != masks.shape[:1]:
        raise ValueError(f"betti: wanted one number for each of the {len(masks)} masks, got the shape {tuple(betti.shape)}")
    if (betti < 0).any():
        raise ValueError(f"betti: wanted no negative number, got {betti.min().item()}")
    return masks
