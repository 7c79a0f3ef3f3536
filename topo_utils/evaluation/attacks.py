"""Attacks on the latent codes of a VAE and on its encoder: how far one has to go until an item is another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from topo_utils.datasets import Dataset
from topo_utils.evaluation import intervals
from topo_utils.evaluation.checks import check_items
from topo_utils.models.features import Autoencoder, Classifier, Identity
from topo_utils.models.vae import Posterior
from topo_utils.seed import generator
from topo_utils.topology.checks import check_count, check_finite, check_number

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

#: What an attack maximises for each point, and whether it has succeeded there: of points ``(m, ...)`` and their indices.
Goal = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

ITEMS = 200  # items that are attacked, at most
BY_DISTANCE = (5, 10, 15, 20, 30, 40)  # ε in percent of the median distance of codes of different classes
BY_PRIOR = (25, 50, 100)  # in percent of the standard deviation of a coordinate under the prior
BY_MOVE = (10, 20, 30)  # in percent of F's unit, by which a random direction moves the decoded item
BY_PIXELS = (10,)  # of the encoder's attack, in percent of the median distance of items of different classes


class Attacked(NamedTuple):
    """What became of each point.

    Attributes
    ----------
    perturbation
        The first one that succeeded, else the one of the largest value.
    value
        What the goal gave for it.
    success
        Whether it succeeded.
    """

    perturbation: Float[Tensor, "n ..."]
    value: Float[Tensor, " n"]
    success: Bool[Tensor, " n"]


def pgd(
    goal: Goal,
    points: Float[Tensor, "n ..."],
    radius: float,
    steps: int = 40,
    restarts: int = 5,
    seed: int = 0,
    known: Attacked | None = None,
) -> Attacked:
    """Projected gradient ascent under ‖δ‖₂ ≤ radius, from uniform starts in the ball, with steps of 2.5 radius / steps.

    Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018, here with Euclidean balls and
    normalised gradients. The best is kept over all steps and restarts, so that a restart never makes it worse.

    Parameters
    ----------
    goal
        Gives the value to maximise and the success of points, whose indices it is told.
    points
        Finite.
    radius
        At least 0.
    known
        What a smaller radius has achieved: it holds for this one, too, and only the rest is attacked.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.
    """
    check_finite("points", points)
    check_number("radius", radius, 0)
    check_count("steps", steps)
    check_count("restarts", restarts)
    if known is None:
        everything = torch.arange(len(points))
        known = Attacked(torch.zeros_like(points), *(each.detach() for each in goal(points, everything)))
    best = Attacked(*(each.clone() for each in known))
    for restart in range(restarts):
        left = (~best.success).nonzero()[:, 0]
        if not len(left):
            break
        start = radius * uniform_in_ball(points.flatten(1).shape, generator(seed, "attack", restart)).to(points)
        _ascend(goal, points, start.view_as(points), radius, steps, left, best)
    return best


def _ascend(goal: Goal, points: Tensor, start: Tensor, radius: float, steps: int, left: Tensor, best: Attacked) -> None:
    """One run over the points that are ``left``; what is better than ``best`` is put there."""
    delta = start[left]
    for step in range(steps + 1):
        with torch.enable_grad():
            value, success = goal(points[left] + delta.requires_grad_(), left)
            gradient = torch.autograd.grad(value.sum(), delta)[0] if step < steps else None
        better = ~best.success[left] & (success | (value > best.value[left]))
        at = left[better]
        best.perturbation[at], best.value[at] = delta.detach()[better], value.detach()[better]
        best.success[at] = success[better]
        if gradient is None or best.success[left].all():
            return
        delta = _projected(delta.detach() + 2.5 * radius / steps * _unit(gradient), radius)


def uniform_in_ball(shape: tuple[int, int], stream: torch.Generator) -> Float[Tensor, "n d"]:
    """Points of the unit ball of R^d."""
    n, d = shape
    return _unit(torch.randn(n, d, generator=stream)) * torch.rand(n, 1, generator=stream) ** (1 / d)


def uniform_on_sphere(shape: tuple[int, int], stream: torch.Generator) -> Float[Tensor, "n d"]:
    """Points of the unit sphere of R^d."""
    return _unit(torch.randn(*shape, generator=stream))


def _unit(x: Tensor) -> Tensor:
    norm = x.flatten(1).norm(dim=1).clamp(min=torch.finfo(x.dtype).tiny)
    return x / norm.view(-1, *[1] * (x.ndim - 1))


def _projected(delta: Tensor, radius: float) -> Tensor:
    norm = delta.flatten(1).norm(dim=1).clamp(min=torch.finfo(delta.dtype).tiny)
    return delta * (radius / norm).clamp(max=1).view(-1, *[1] * (delta.ndim - 1))


@torch.no_grad()
def attack_success(
    model: nn.Module,
    data: Dataset,
    features: Autoencoder | Identity,
    judge: Classifier | None = None,
    second: Classifier | None = None,
    seed: int = 0,
    items: int = ITEMS,
    steps: int = 40,
    restarts: int = 5,
) -> dict[str, float]:
    """Shares of the items that an attack on their codes z₀ = μ(x) turns into another one, in several units of ε.

    **With a judge f**, items are kept where f(G(z₀)) is their class; the attack maximises the cross-entropy of f(G(z₀ + δ))
    under ‖δ‖₂ ≤ ε and succeeds where the class flips. **Without one** it maximises ‖F(G(z₀ + δ)) - F(G(z₀))‖ and succeeds
    beyond the median distance between the features of an item and its nearest neighbour.

    A regulariser that rescales the codes would look robust at a fixed ε. So ε is given in units that scale with the codes:
    the median distance between the codes of items of different classes (of all, without a judge); and the radius at which a
    *random* direction moves F(G(z)) by a given part of F's unit, in the median over the items, which changes with
    the decoder's steepness too. A third, the standard deviation of the prior, is what samples are spread by.

    **Control**: random directions of the same norm. What they achieve is no attack's merit.

    Parameters
    ----------
    model
        Has ``encode``, ``decode`` and ``prior``; it is put into evaluation mode.
    data
        Items with their classes, at least two; the seed chooses which ``items`` of them are attacked, the same for all
        models.
    features
        F.
    second
        Another judge, which is asked about the flips.

    Returns
    -------
    dict
        With a judge: ``pgd_kept``, ``pgd_<ε>`` (percent of the distance between classes), ``pgd_random_<ε>``, ``pgd_area``
        (the mean of the curve from 0 to the largest ε, by the trapezoid rule; with the ends ``_low`` and ``_high`` of its
        95 % interval over the items), ``pgd_prior_<ε>``, ``pgd_moved_<ε>``,
        ``pgd_second_<ε>``, ``encoder_attack_<ε>`` and ``encoder_attack_kl_<ε>`` (:func:`encoder_attack`); where the judge
        knows no item from its code, ``pgd_kept`` alone. Without a judge: ``displaced_<ε>``, ``displaced_random_<ε>``,
        ``displaced_area`` with its interval.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.
    """
    check_items("data", data.items, data.shape, least=2)
    check_count("items", items, 2)
    model.eval()
    chosen = torch.randperm(len(data), generator=generator(seed, "attacked"))[:items]
    x, labels = data.items[chosen], data.labels[chosen]
    codes = model.encode(x).mean
    settings = {"steps": steps, "restarts": restarts, "seed": seed}
    unit = _median_distance(codes, None if judge is None else labels)
    if judge is None:
        goal = displaced(model, features, codes, _neighbours(features.features(x)))
        return _curve("displaced", goal, codes, unit, {}, **settings)[0]
    kept = judge.eval()(model.decode(codes)).argmax(1) == labels
    metrics = {"pgd_kept": kept.float().mean().item()}
    if not kept.any():
        return metrics
    codes, x, labels = codes[kept], x[kept], labels[kept]
    spread = model.prior.sample(1000, generator(seed, "attack", "prior")).var(0).mean().sqrt().item()
    others = {f"pgd_prior_{p}": p / 100 * spread for p in BY_PRIOR}
    others |= {f"pgd_moved_{p}": radius_that_moves(model, features, codes, p / 100, 10 * unit, seed) for p in BY_MOVE}
    curve, attacks = _curve("pgd", misread(model, judge, labels), codes, unit, others, **settings)
    metrics |= curve
    if second is not None:
        again = misread(model, second.eval(), labels)
        for percent in BY_DISTANCE:
            attacked = attacks[f"pgd_{percent}"]
            flipped = again(codes + attacked.perturbation, torch.arange(len(codes)))[1] & attacked.success
            metrics[f"pgd_second_{percent}"] = _share(flipped)
    apart = _median_distance(data.items[chosen].flatten(1), data.labels[chosen])
    for percent in BY_PIXELS:
        metrics |= encoder_attack(model, judge, x, labels, percent, apart, steps, seed=seed)
    return metrics


def _curve(
    name: str,
    goal: Goal,
    codes: Tensor,
    unit: float,
    others: dict[str, float],
    steps: int,
    restarts: int,
    seed: int,
) -> tuple[dict[str, float], dict[str, Attacked]]:
    """Success at each ε in percent of the unit, with random directions beside it, and at other radii; and the attacks."""
    radii = {f"{name}_{percent}": percent / 100 * unit for percent in BY_DISTANCE}
    attacks, known = {}, None
    for each, radius in sorted((radii | others).items(), key=lambda pair: pair[1]):
        attacks[each] = known = pgd(goal, codes, radius, steps, restarts, seed, known)
    metrics = {each: _share(attacks[each].success) for each in radii | others}
    directions = uniform_on_sphere(codes.shape, generator(seed, "attack", "random")).to(codes)
    for percent in BY_DISTANCE:
        success = goal(codes + radii[f"{name}_{percent}"] * directions, torch.arange(len(codes)))[1]
        metrics[f"{name}_random_{percent}"] = _share(success)
    flips = torch.stack([torch.zeros(len(codes), dtype=torch.bool), *(attacks[each].success for each in radii)]).float()
    areas = torch.trapezoid(flips, torch.tensor([0.0, *BY_DISTANCE]), dim=0) / BY_DISTANCE[-1]
    area = f"{name}_area"
    return metrics | {area: areas.mean().item(), **intervals.of_mean(area, areas, seed)}, attacks


def misread(model: nn.Module, judge: Classifier, labels: Tensor) -> Goal:
    """The judge takes the decoded code for another class: cross-entropy, and whether its first choice is wrong."""

    def goal(z: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        logits = judge(model.decode(z))
        return cross_entropy(logits, labels[at], reduction="none"), logits.argmax(1) != labels[at]

    return goal


def displaced(model: nn.Module, features: Autoencoder | Identity, codes: Tensor, threshold: float) -> Goal:
    """The decoded item has moved in F, and whether by more than the threshold."""
    origin = features.features(model.decode(codes))

    def goal(z: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        moved = (features.features(model.decode(z)) - origin[at]).norm(dim=1)
        return moved, moved > threshold

    return goal


@torch.no_grad()
def radius_that_moves(
    model: nn.Module, features: Autoencoder | Identity, codes: Float[Tensor, "n d"], by: float, most: float, seed: int = 0
) -> float:
    """Radius at which a random direction moves F(G(z)) by the distance ``by``, in the median over the codes.

    By bisection. Where no radius moves it so far, as after a collapse, it is ``most``, the largest that is tried.

    Raises
    ------
    ValueError
        ``by`` is not a finite number, at least 0.
    """
    check_number("by", by, 0)
    directions = uniform_on_sphere(codes.shape, generator(seed, "attack", "move")).to(codes)
    origin = features.features(model.decode(codes))
    low, high = 0.0, most
    for _ in range(24):
        radius = (low + high) / 2
        moved = (features.features(model.decode(codes + radius * directions)) - origin).norm(dim=1).median()
        low, high = (radius, high) if moved < by else (low, radius)
    return high


@torch.no_grad()
def encoder_attack(
    model: nn.Module,
    judge: Classifier,
    x: Float[Tensor, "n ..."],
    labels: Tensor,
    percent: int,
    unit: float,
    steps: int = 40,
    restarts: int = 1,
    seed: int = 0,
) -> dict[str, float]:
    """An attack on the encoder: images x + δ in [0, 1], ‖δ‖₂ ≤ ε, whose posterior is as far as can be from that of x.

    The unsupervised attack of Kuzina, Welling & Tomczak, "Alleviating adversarial attacks on variational autoencoders with
    MCMC", NeurIPS 2022, equation 5: it maximises D_KL(q ‖ q_δ) + D_KL(q_δ ‖ q). ε is in the space of the data and so the
    same for all models.

    Returns
    -------
    dict
        ``encoder_attack_kl_<percent>``: that divergence in nats, half the sum, the mean over the items;
        ``encoder_attack_<percent>``: share of the items whose reconstruction G(μ(x + δ)) the judge takes for another class.
    """
    posterior = model.encode(x)

    def goal(points: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        moved = model.encode(points.clamp(0, 1))
        return symmetric_kl(Posterior(*(each[at] for each in posterior)), moved), torch.zeros(len(at), dtype=torch.bool)

    attacked = pgd(goal, x, percent / 100 * unit, steps, restarts, seed)
    rebuilt = model.reconstruct((x + attacked.perturbation).clamp(0, 1))
    return {
        f"encoder_attack_kl_{percent}": attacked.value.mean().item(),
        f"encoder_attack_{percent}": _share(judge(rebuilt).argmax(1) != labels),
    }


def symmetric_kl(p: Posterior, q: Posterior) -> Float[Tensor, " n"]:
    """(D_KL(p ‖ q) + D_KL(q ‖ p)) / 2 of diagonal Gaussians, in nats."""
    variances = p.log_variance.exp(), q.log_variance.exp()
    squares = (p.mean - q.mean).square()
    terms = (variances[0] + squares) / variances[1] + (variances[1] + squares) / variances[0] - 2
    return terms.sum(1) / 4


def _median_distance(points: Float[Tensor, "n d"], labels: Tensor | None = None) -> float:
    """Between points of different labels, where there are labels of two classes; else between all."""
    distances = torch.cdist(points, points)
    apart = ~torch.eye(len(points), dtype=torch.bool)
    if labels is not None and len(labels.unique()) > 1:
        apart = labels[:, None] != labels
    return distances[apart].median().item()


def _neighbours(points: Float[Tensor, "n d"]) -> float:
    """Median distance of a point to its nearest other point."""
    return torch.cdist(points, points).fill_diagonal_(torch.inf).amin(1).median().item()


def _share(flags: Bool[Tensor, " n"]) -> float:
    return flags.float().mean().item()
