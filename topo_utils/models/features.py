"""Feature networks that are trained once, frozen and cached: the initial autoencoder F, and the judge.

F's encoder gives the low-dimensional features in which the topology of a batch is measured (the proposal, section 2.3).
The judge is a digit classifier trained on the split ``judge``, which no generative model and no F ever sees; its
penultimate features give the Fréchet distance.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, pdist

from topo_utils import paths, sealed
from topo_utils.datasets import REGISTRY, Dataset, load
from topo_utils.models import likelihoods, networks
from topo_utils.seed import derive, generator
from topo_utils.topology.checks import check_option

if TYPE_CHECKING:
    from jaxtyping import Float


BATCH = 128  # items in a training step


class Autoencoder(nn.Module):
    """The initial autoencoder of a domain. ``features`` are the codes divided by their mean distance on the training data.

    With that unit, distances, diagrams and the weight γ mean the same on every data set. Features of graphs do not depend
    on the order of their nodes, nor those of molecules on that of their atoms; proteins are superposed, so that their
    coordinates can be compared as they are.
    """

    def __init__(self, shape: tuple[int, ...], dimension: int, domain: str = "images", width: int = 16):
        super().__init__()
        self.encoder = networks.invariant_encoder(domain, shape, width, dimension)
        self.decoder = networks.decoder(domain, shape, width, dimension)
        self.likelihood = networks.likelihood(domain, shape)
        self.made_from = {"shape": list(shape), "dimension": dimension, "domain": domain, "width": width}
        self.register_buffer("scale", torch.ones(()))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the items that it takes."""
        return tuple(self.made_from["shape"])

    def features(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch d"]:
        """F(x); distances are in units of the mean distance between two training items."""
        return self.encoder(x) / self.scale

    def reconstruct(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """The decoder's item of the code; pixels and probabilities in [0, 1]."""
        return self.likelihood.mean(self.decoder(self.encoder(x)))

    def error(self, x: Float[Tensor, "batch ..."], seen: Float[Tensor, "batch ..."] | None = None) -> Float[Tensor, ""]:
        """What is minimised: squared error, or cross-entropy of edges, atoms and bonds; of x from what is seen, x itself or
        a change of it.
        """
        seen = x if seen is None else seen
        if self.likelihood.discrete:
            return self.likelihood.nats(self.decoder(self.encoder(seen)), x).mean()
        return mse_loss(self.reconstruct(seen), x)


class Identity(nn.Module):
    """F of points: they are features already. Divided by their mean distance, like all others."""

    made_from: dict | None = None
    shape: tuple[int, ...] | None = None  # of the items that it takes: any

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def encoder(self, x: Float[Tensor, "batch d"]) -> Float[Tensor, "batch d"]:
        return x

    def features(self, x: Float[Tensor, "batch d"]) -> Float[Tensor, "batch d"]:
        """F(x) = x / scale."""
        return x / self.scale

    def reconstruct(self, x: Float[Tensor, "batch d"]) -> Float[Tensor, "batch d"]:
        """x itself."""
        return x


class Geodesic(Identity):
    """F of points that knows more than where they are: how far it is from one to the other *along the data*.

    Distances are lengths of shortest paths in the graph of the neighbours of some training points, the landmarks; features
    are their coordinates by classical scaling (Isomap: Tenenbaum, de Silva & Langford, Science 290, 2000, fitted by
    scikit-learn). A new point is joined to its nearest landmarks, as in :meth:`sklearn.manifold.Isomap.transform`.
    """

    neighbours = 10

    def __init__(self, landmarks: int, coordinates: int, dimension: int):
        super().__init__()
        self.shape = (coordinates,)
        self.made_from = {"landmarks": landmarks, "coordinates": coordinates, "dimension": dimension}
        self.register_buffer("points", torch.zeros(landmarks, coordinates))
        self.register_buffer("paths", torch.zeros(landmarks, landmarks))  # lengths of the shortest ones
        self.register_buffer("axes", torch.zeros(landmarks, dimension))

    @classmethod
    def fit(cls, points: Float[Tensor, "n d"], dimension: int) -> Geodesic:
        """Of landmarks, more than ``neighbours``."""
        from sklearn.manifold import Isomap

        model = cls(*points.shape, dimension)
        solvers = {"eigen_solver": "dense", "path_method": "D"}  # the same result each time
        found = Isomap(n_neighbors=cls.neighbours, n_components=dimension, **solvers).fit(points.double().numpy())
        scaling = found.kernel_pca_
        axes = scaling.eigenvectors_ / scaling.eigenvalues_**0.5
        values = {"points": points, "paths": torch.from_numpy(found.dist_matrix_), "axes": torch.from_numpy(axes)}
        model.load_state_dict({**values, "scale": model.scale})  # copied, so that a file gives the very same sums
        return model

    def encoder(self, x: Float[Tensor, "batch d"]) -> Float[Tensor, "batch dimension"]:
        nearest = torch.cdist(x, self.points).topk(self.neighbours, largest=False)
        along = (nearest.values[:, :, None] + self.paths[nearest.indices]).amin(1)
        return -0.5 * (along.square() - self.paths.square().mean(0)) @ (self.axes - self.axes.mean(0))

    def features(self, x: Float[Tensor, "batch d"]) -> Float[Tensor, "batch dimension"]:
        """Coordinates; the distances between them are about those along the data, over their mean."""
        return self.encoder(x) / self.scale


class Classifier(nn.Module):
    """The judge: a small classifier of a domain's items."""

    def __init__(self, shape: tuple[int, ...], classes: int, domain: str = "images", dimension: int = 64, width: int = 16):
        super().__init__()
        self.body = nn.Sequential(networks.invariant_encoder(domain, shape, width, dimension), nn.SiLU(), nn.Dropout(0.3))
        self.head = nn.Linear(dimension, classes)

    def features(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch d"]:
        """Penultimate activations."""
        return self.body(x)

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch classes"]:
        """Class logits."""
        return self.head(self.features(x))


@torch.no_grad()
def unexplained(features: Autoencoder | Identity, items: Float[Tensor, "n ..."]) -> float:
    """Share of the items' variance that F does not reproduce: Σ‖x - x̂‖² / Σ‖x - x̄‖², 0 for a perfect reconstruction."""
    rebuilt = torch.cat([features.reconstruct(batch) for batch in items.split(1000)])
    return float((items - rebuilt).square().sum() / (items - items.mean(0)).square().sum())


@torch.no_grad()
def features_of(features: Autoencoder | Identity, items: Float[Tensor, "n ..."]) -> Float[Tensor, "n d"]:
    """F of many items, a thousand at a time."""
    return torch.cat([features.features(batch) for batch in items.split(1000)])


def initial_autoencoder(
    train: Dataset,
    dimension: int = 16,
    epochs: int | None = None,
    seed: int = 0,
    width: int = 16,
    kind: str = "plain",
) -> Autoencoder | Identity:
    """F for a data set, trained on its ``train`` split, or read from the cache.

    Points are their own features (:class:`Identity`), so that nothing is trained for them, unless F is ``"geodesic"``.

    Parameters
    ----------
    train
        Training items. With other items, another F is trained and cached.
    dimension
        Dimension of the features.
    epochs
        Epochs of its training (Adam, batches of 128); None: 30; more for data of which these make few steps, fewer for
        large data, whose 2,000 steps suffice (6,000 for molecules and graphs, whose order the decoder has to guess).
    seed
        Of its training.
    width
        Of its networks, as that of a model: where both are equal, a model's encoder can start from F's.
    kind
        ``"plain"``; or ``"augmented"``: it reproduces an item from a slightly shifted, turned and scaled one, as a
        denoising autoencoder (Vincent et al., ICML 2008) does from a noisy one, so that features depend less on such
        changes. Only for domains that say how an item may be changed: images. Or ``"geodesic"``, only for points: distances
        along the data (:class:`Geodesic`), by a thousand of them.

    Returns
    -------
    Autoencoder or Identity
        Frozen, in evaluation mode, on the CPU.

    Raises
    ------
    ValueError
        Another ``kind``, or one that the domain does not have; fewer points than ``"geodesic"`` needs.
    """
    architecture = networks.architecture(train.domain.name)
    check_option("kind", kind, ("plain", "augmented", "geodesic"))
    if kind == "geodesic" and architecture.features:
        raise ValueError(
            f"kind: wanted 'plain' or 'augmented' for {train.domain.name}, which are no points, got 'geodesic'"
        )
    if kind == "augmented" and architecture.augmented is None:
        raise ValueError(f"kind: wanted 'plain' for {train.domain.name}, which have no augmentation, got 'augmented'")
    changed = architecture.augmented if kind == "augmented" else (lambda x: x)
    if epochs is None:
        epochs = _epochs(30, len(train), architecture.feature_steps)
    chosen = torch.randperm(len(train), generator=generator(seed, "scale"))[:1000]

    def scaled(model: Autoencoder | Identity) -> Autoencoder | Identity:
        model.scale = pdist(model.encoder(train.items[chosen])).mean().detach()
        return model

    if kind == "geodesic":
        dimension = min(dimension, len(chosen) - 1)
        if len(chosen) <= Geodesic.neighbours:
            raise ValueError(f"train: wanted more than {Geodesic.neighbours} points for 'geodesic', got {len(chosen)}")
        settings = {"dimension": dimension, "seed": seed, "kind": kind}
        points = train.items[chosen]
        return _cached(
            "geodesic",
            settings,
            train,
            lambda: Geodesic(*points.shape, dimension),
            lambda: scaled(Geodesic.fit(points, dimension)),
        )
    if not architecture.features:
        return scaled(Identity()).requires_grad_(False).eval()

    def make() -> Autoencoder:
        return Autoencoder(train.shape, dimension, train.domain.name, width)

    def build() -> Autoencoder:
        return scaled(_fit(make(), lambda model, x, _: model.error(x, changed(x)), train, epochs, seed))

    settings = {"dimension": dimension, "epochs": epochs, "seed": seed, "width": width, "kind": kind}
    return _cached("autoencoder", settings, train, make, build)


def judge_of(name: str, seed: int = 0) -> Classifier | None:
    """The judge of a data set by name; None where its items are no images, or none are kept apart for a judge.

    Another seed gives another judge, that was trained on the same items from other weights.
    """
    source = REGISTRY[name]
    return judge(load(name, "judge"), seed=seed) if source.domain.pixels and "judge" in source.splits else None


def judge(data: Dataset, epochs: int | None = None, seed: int = 0) -> Classifier:
    """Classifier of the items of a ``judge`` split, trained on them or read from the cache.

    Images are trained under small random shifts, rotations and scalings.

    Raises
    ------
    ValueError
        Another split was given: the judge would have seen what it judges.
    """
    if data.split != "judge":
        raise ValueError(f"data: wanted the split 'judge', got '{data.split}': the judge must not see what it judges")
    classes, epochs = int(data.labels.max()) + 1, _epochs(160, len(data)) if epochs is None else epochs
    turn = networks.architecture(data.domain.name).augmented or (lambda x: x)

    def make() -> Classifier:
        return Classifier(data.shape, classes, data.domain.name)

    def build() -> Classifier:
        return _fit(make(), lambda model, x, y: cross_entropy(model(turn(x)), y), data, epochs, seed)

    settings = {"classes": classes, "epochs": epochs, "seed": seed}
    return _cached("judge", settings, data, make, build)


def training_steps(domain: str, items: int) -> int:
    """Steps of F's training on so many items of a domain, unless epochs are given: what F adds to a model's own steps.

    None for points, which are their own features.
    """
    architecture = networks.architecture(domain)
    if not architecture.features:
        return 0
    return _epochs(30, items, architecture.feature_steps) * math.ceil(items / BATCH)


def _epochs(most: int, items: int, steps: int = 2000) -> int:
    """Epochs that make about so many steps, at most ``most`` where these make 600, and at least three."""
    return max(3, min(max(most, 600 * BATCH // items), steps * BATCH // items))


def _fit(model: nn.Module, loss: Callable, data: Dataset, epochs: int, seed: int) -> nn.Module:
    """Train ``model`` with Adam and a cosine schedule; it was made, and its noise is drawn, from the global generator."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    shuffle = generator(seed, "shuffle")
    for _ in range(epochs):
        for batch in torch.randperm(len(data), generator=shuffle).split(BATCH):
            optimizer.zero_grad()
            loss(model, data.items[batch], data.labels[batch]).backward()
            optimizer.step()
        schedule.step()
    return model


def _cached(
    name: str, settings: dict, data: Dataset, make: Callable[[], nn.Module], build: Callable[[], nn.Module]
) -> nn.Module:
    """The frozen network that ``build`` trains, read from the cache when it was trained before.

    The key covers all that decides the weights: the settings, the data, this source code and torch's version.
    """
    files = (__file__, networks.__file__, likelihoods.__file__)
    sources = [*(Path(file).read_text() for file in files), torch.__version__]
    key = sealed.digest({}, {"settings": json.dumps(settings), "data": data.digest, "sources": json.dumps(sources)})
    file = paths.processed() / f"{data.name}-{name}-{key[:12]}.safetensors"
    with torch.random.fork_rng(devices=[]), torch.enable_grad():  # leaves the caller's randomness untouched
        torch.manual_seed(derive(settings["seed"], name))
        model = make()
        if not _restore(model, file):
            print(f"making the {name} of {len(data):,} items, once; it is cached for later runs", flush=True)
            torch.manual_seed(derive(settings["seed"], name, "training"))
            model = build().train(False)
            sealed.write(file, model.state_dict())
    return model.requires_grad_(False).eval()


def _restore(model: nn.Module, file: Path) -> bool:
    """Load cached weights into ``model``; False when there are none. A damaged file is reported and made again."""
    try:
        model.load_state_dict(sealed.read(file)[0])
    except FileNotFoundError:
        return False
    except (sealed.DamagedError, RuntimeError) as error:
        print(f"the cached network cannot be used and is trained again: {error}", file=sys.stderr)
        return False
    return True


def digest_of(features: Autoencoder | Identity) -> str:
    """Digest of F's weights and scale, 64 hexadecimal digits."""
    return sealed.digest(features.state_dict())


def save(features: Autoencoder | Identity, file: Path) -> str:
    """Keep F in a file that knows what it is; returns the digest of its weights."""
    sealed.write(file, features.state_dict(), {"made_from": json.dumps(features.made_from)})
    return digest_of(features)


def restore(file: Path) -> Autoencoder | Identity:
    """F as :func:`save` kept it: frozen, in evaluation mode, on the CPU.

    Raises
    ------
    DamagedError, OSError
        As :func:`topo_utils.sealed.read` raises them.
    """
    weights, metadata = sealed.read(file)
    made_from = json.loads(metadata["made_from"])
    with torch.random.fork_rng(devices=[]):  # to make a network draws random numbers
        kind = Identity if made_from is None else Geodesic if "landmarks" in made_from else Autoencoder
        model = kind(**(made_from or {}))
    model.load_state_dict(weights)
    return model.requires_grad_(False).eval()
