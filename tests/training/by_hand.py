"""Training written out by hand: what ``fit`` has to agree with.

Plain loops, Adam, and the proposal's formulas. Of the package only networks, data, seeds and the losses of
``topo_utils.topology`` are used.

Streams of random numbers, all derived from the run's seed: "initial weights" before the network is made, ("step", n) before
step n of the whole training, ("order", epoch) for the batches, "grid" for the clouds that a grid is calibrated on, and
("validation", index) for the noise of a batch of validation items, or of the codes at which a learned prior's KL is taken.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict

import torch

from topo_utils.models.diffusion import Diffusion
from topo_utils.models.unet import ResidualMLP, UNet
from topo_utils.models.vae import VAE
from topo_utils.seed import generator, seed_everything
from topo_utils.topology import (
    BettiLoss,
    CriticalEdgeMatching,
    DistanceMatching,
    EnergyDistance,
    NullReference,
    TopologicalLoss,
)

VALIDATION_BATCH = 500


def loss_of(config, comparison, domain):
    """What a configuration compares with, not yet calibrated."""
    scale_free = comparison == "latent"  # codes and features live in different spaces
    weights = config.h0_weight, config.h1_weight
    if comparison == "sample":
        return TopologicalLoss(config.representation, filtration=domain.filtration, levels=config.levels, weights=weights)
    topological = TopologicalLoss(
        config.representation, config.filtration, config.k, config.levels, weights, scale_free=scale_free
    )
    return {
        "topological": topological,
        "distances": DistanceMatching(scale_free),
        "critical-edges": CriticalEdgeMatching(0, scale_free),
        "critical-edges-h1": CriticalEdgeMatching(1, scale_free),
        "energy": EnergyDistance(),
        "gaussian": NullReference(topological, "gaussian"),
        "shuffled": NullReference(topological, "shuffled"),
    }[config.regularizer]


@torch.no_grad()
def calibrated_losses(config, train, codes, loss_of):
    """The losses of a run, each with its grid from sixteen random clouds, or from as many items as a cloud has points."""
    losses = {}
    for comparison in config.gammas:
        if comparison == "betti":
            continue
        stream, size = generator(config.seed, "grid"), config.cloud_size
        orders = [torch.randperm(len(train), generator=stream)[:size] for _ in range(16)]
        clouds = train.domain.cloud(train.items[orders[0]]) if comparison == "sample" else codes[torch.stack(orders)]
        losses[comparison] = loss_of(config, comparison, train.domain).fit(clouds)
    return losses


def norm_of_gradient(value, network):
    gradients = torch.autograd.grad(value, list(network.parameters()), retain_graph=True, allow_unused=True)
    return math.sqrt(sum(each.square().sum().item() for each in gradients if each is not None))


def train_by_hand(config, train, network, objective, validate, after_step=lambda step: None):
    """The loop: returns a row of history an epoch.

    ``objective(chosen)`` gives, for the items with these indices, the loss without regulariser, its terms, and for each
    comparison a function that makes it. ``validate()`` gives the columns of the validation.
    """
    prior = [weight for name, weight in network.named_parameters() if name.startswith("prior.")]
    rest = [weight for name, weight in network.named_parameters() if not name.startswith("prior.")]
    optimizer = torch.optim.Adam(rest, lr=config.learning_rate)
    if prior:
        optimizer.add_param_group({"params": prior, "lr": config.prior_learning_rate})
    per_epoch, rows = len(train) // config.batch_size, []
    for epoch in range(config.epochs):
        order = torch.randperm(len(train), generator=generator(config.seed, "order", epoch))
        values = defaultdict(list)
        for index in range(per_epoch):
            step = epoch * per_epoch + index
            seed_everything(config.seed, "step", step)
            loss, terms, comparisons = objective(order[index * config.batch_size : (index + 1) * config.batch_size])
            if config.gammas and step % config.every == 0:
                compared = {name: comparisons[name]() for name in config.gammas}
                terms |= {f"topological_{name}": value for name, value in compared.items()}
                penalty = sum(config.gammas[name] * value for name, value in compared.items())
                values["gradient_loss"] = [norm_of_gradient(loss, network)]  # of the last such step of an epoch
                values["gradient_topological"] = [norm_of_gradient(penalty, network)]
                rising = config.warmup * config.epochs * per_epoch
                loss = loss + (min(1, (step + 1) / rising) if rising else 1) * penalty
            for name, value in {**terms, "loss": loss}.items():
                values[name].append(value.item())
            optimizer.zero_grad()
            loss.backward()
            if config.gradient_clip is not None:
                torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
            optimizer.step()
            after_step(step)
        with torch.no_grad():
            validation = {f"validation_{name}": value for name, value in validate().items()}
        rows.append({"epoch": epoch, **{name: sum(each) / len(each) for name, each in values.items()}, **validation})
    return rows


def nats_by_hand(network, parameters, x):
    """-log p(x|z) of each item: coordinates with one learned variance, softly bounded below; or Bernoulli pixels."""
    if x.ndim == 2:
        log_variance = -8 + torch.nn.functional.softplus(network.likelihood.log_variance + 8)
        return ((x - parameters) ** 2 / log_variance.exp() + log_variance + math.log(2 * math.pi)).sum(1) / 2
    return torch.nn.functional.binary_cross_entropy_with_logits(parameters, x, reduction="none").sum((1, 2, 3))


def vae_by_hand(config, train, validation, features, loss_of=loss_of):
    """Loss = -E_q[log p(x|z)] + β D_KL + Σ γ L_topo (the proposal, section 2.5 A): weights and rows of history."""
    codes = features.features(train.items)
    losses = calibrated_losses(config, train, codes, loss_of)
    seed_everything(config.seed, "initial weights")
    network = VAE(
        train.shape, config.latent_dimension, train.domain.name, config.width, config.prior, config.prior_components
    )
    if config.prior == "vamp":
        chosen = torch.randperm(len(train))[: config.prior_components]
        network.prior.inputs.data = train.items[chosen].clone()

    def log_density(z, mean, log_variance):
        return -((z - mean) ** 2 / log_variance.exp() + log_variance + math.log(2 * math.pi)).sum(-1) / 2

    def components():
        if config.prior == "mixture":
            return network.prior.logits.softmax(0), network.prior.means, network.prior.log_variances
        mean, log_variance = network.encoder(network.prior.inputs).chunk(2, 1)
        return torch.full((len(mean),), 1 / len(mean)), mean, log_variance

    def divergence(mean, log_variance, z):
        if config.prior == "standard":
            return (mean**2 + log_variance.exp() - 1 - log_variance).sum(1) / 2
        density = sum(w * log_density(z, m, v).exp() for w, m, v in zip(*components(), strict=True))
        return log_density(z, mean, log_variance) - density.log()

    def drawn(count):
        if config.prior == "standard":
            return torch.randn(count, config.latent_dimension)
        weights, means, log_variances = components()
        of = torch.multinomial(weights, count, replacement=True)
        return means[of] + (log_variances[of] / 2).exp() * torch.randn(count, config.latent_dimension)

    def clouds(points):
        size = config.cloud_size
        return torch.stack([points[start : start + size] for start in range(0, len(points) - size + 1, size)])

    def terms_of(x, noise, noisy):
        mean, log_variance = network.encoder(x).chunk(2, 1)
        z = mean + (log_variance / 2).exp() * noise
        parameters = network.decoder(z if noisy else mean)
        kl = divergence(mean, log_variance, z)
        return mean, parameters, {"reconstruction": nats_by_hand(network, parameters, x).mean(), "kl": kl.mean()}

    def objective(chosen):
        x = train.items[chosen]
        mean, parameters, terms = terms_of(x, torch.randn(len(x), config.latent_dimension), noisy=True)
        expected = parameters if x.ndim == 2 else torch.sigmoid(parameters)

        def generated():
            parameters = network.decoder(drawn(len(mean)))
            return parameters if x.ndim == 2 else torch.sigmoid(parameters)

        def sample(items):
            return train.domain.cloud(items[: config.cloud_size])

        comparisons = {
            "latent": lambda: losses["latent"](clouds(codes[chosen]), clouds(mean)),
            "reconstruction": lambda: losses["reconstruction"](clouds(codes[chosen]), clouds(features.features(expected))),
            "generated": lambda: losses["generated"](clouds(codes[chosen]), clouds(features.features(generated()))),
            "sample": lambda: losses["sample"](sample(x), sample(expected)),
        }
        return terms["reconstruction"] + config.beta * terms["kl"], terms, comparisons

    def validate():
        noise = [
            torch.randn(len(x), config.latent_dimension, generator=generator(config.seed, "validation", index))
            for index, x in enumerate(validation.items.split(VALIDATION_BATCH))
        ]
        terms = terms_of(validation.items, torch.cat(noise), noisy=False)[2]
        return {name: value.item() for name, value in terms.items()}

    rows = train_by_hand(config, train, network, objective, validate)
    return network.state_dict(), rows


def diffusion_by_hand(config, train, validation, features, loss_of=loss_of):
    """Loss = E‖ε - ε̂‖² + Σ γ w L_topo (the proposal, section 2.5 B): averaged weights and rows of history."""
    codes = features.features(train.items)
    losses = calibrated_losses(config, train, codes, loss_of)
    betti = {
        each.split: each.properties["betti"][:, config.betti_dimension] if "betti" in each.properties else None
        for each in (train, validation)
    }
    conditions = None if config.condition == "none" else int(betti["train"].max()) + 1
    seed_everything(config.seed, "initial weights")
    if train.domain.name in ("images", "masks"):
        network = UNet(train.shape, config.width, conditions)
    else:
        network = ResidualMLP(train.shape, 8 * config.width, classes=conditions)
    network = Diffusion(network, train.shape, config.sigma_min, config.sigma_max, config.schedule).fit_scale(train.items)
    average = copy.deepcopy(network)

    def predict(model, x, sigma, noise, condition):
        """‖ε - ε̂‖² of each item, and the estimates x̃."""
        column = sigma.view(-1, *[1] * (x.ndim - 1))
        noisy = x + column * noise
        predicted = model(noisy, sigma, condition if conditions else None)
        return ((noise - predicted) ** 2).flatten(1).sum(1), noisy - column * predicted

    def objective(chosen):
        x = train.items[chosen]
        sigma = network.sample_sigma(len(x))
        noise = torch.randn(x.shape)
        error, estimates = predict(network, x, sigma, noise, betti["train"] is not None and betti["train"][chosen])
        loss = error.mean()
        low = [i for i in sigma.argsort().tolist() if sigma[i] <= config.topological_sigma * network.sigma_data]
        low = torch.tensor(low[: config.cloud_size], dtype=torch.int64)
        weight = (network.sigma_data**2 / (sigma[low] ** 2 + network.sigma_data**2)).mean()

        def sample(items):
            return train.domain.cloud(items[low])

        comparisons = {
            "denoised": lambda: (
                weight * losses["denoised"](codes[chosen][low][None], features.features(estimates[low])[None])
            ),
            "sample": lambda: weight * losses["sample"](sample(x), sample(estimates)),
            "betti": lambda: BettiLoss(config.betti_form, config.betti_dimension)(
                estimates[low], betti["train"][chosen][low]
            ),
        }
        if len(low) < max(4, (config.k or 0) + 1):
            comparisons = dict.fromkeys(comparisons, lambda: 0 * loss)
        return loss, {"noise": loss}, comparisons

    def validate():
        errors = []
        for index, x in enumerate(validation.items.split(VALIDATION_BATCH)):
            stream = generator(config.seed, "validation", index)
            sigma = average.sample_sigma(len(x), stream)
            noise = torch.randn(x.shape, generator=stream)
            condition = betti["validation"].split(VALIDATION_BATCH)[index] if conditions else None
            errors.append(predict(average, x, sigma, noise, condition)[0])
        return {"noise": torch.cat(errors).mean().item()}

    def move_average(step):
        """The first update takes the weights over; after it, d is the decay, or (1 + n) / (10 + n) if that is smaller."""
        d = min(config.decay, (1 + step) / (10 + step)) if step else 0
        with torch.no_grad():
            for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
                mean.copy_(d * mean + (1 - d) * weight)

    rows = train_by_hand(config, train, network, objective, validate, move_average)
    return average.state_dict(), rows
