"""The shapes in the signatures are true: every public function is called under jaxtyping and beartype."""

from __future__ import annotations

import functools
import importlib
import types
import typing

import beartype
import jaxtyping
import pytest
import torch
from jaxtyping import Bool, Float, Int

from topo_utils import topology
from topo_utils.evaluation import attacks, frechet, geodesics, interpolation
from topo_utils.evaluation import topology as distances
from topo_utils.models import features, vae
from topo_utils.topology import (
    Diagram,
    TopologicalLoss,
    filtrations,
    landmarks,
    loss,
    pairwise_distances,
    persistence,
    vectorize,
)

# by name, because the package re-exports a function of the same name
reconstruction = importlib.import_module("topo_utils.evaluation.autoencoding")
x, y = torch.randn(2, 12, 3), torch.randn(2, 12, 5)
images = torch.rand(4, 1, 28, 28)
model = vae.VAE((1, 28, 28), 6)
calls = [
    (filtrations, "pairwise_distances", lambda f: f(x)),
    (filtrations, "rips", lambda f: f(pairwise_distances(x))),
    (filtrations, "knn", lambda f: f(pairwise_distances(x), 3)),
    (persistence, "persistent_homology", lambda f: f(pairwise_distances(x))),
    (landmarks, "max_min_landmarks", lambda f: f(x[0], 4)),
    (landmarks, "witness", lambda f: f(x[0], torch.tensor([0, 3, 5]))),
    (
        vectorize,
        "landscape",
        lambda f: f(topology.persistent_homology(pairwise_distances(x))[0], torch.linspace(0, 1, 9), 4),
    ),
    (loss, "TopologicalLoss.fit", lambda f: f(TopologicalLoss(), x)),
    (loss, "TopologicalLoss.diagrams", lambda f: f(TopologicalLoss(), x)),
    (loss, "TopologicalLoss.forward", lambda f: f(TopologicalLoss().fit(x), x, y)),
    (vae, "VAE.encode", lambda f: f(model, images)),
    (vae, "VAE.decode", lambda f: f(model, torch.randn(3, 6))),
    (vae, "VAE.parameters_of", lambda f: f(model, torch.randn(3, 6))),
    (vae, "VAE.reconstruct", lambda f: f(model, images)),
    (vae, "VAE.forward", lambda f: f(model, images)),
    (vae, "Posterior.sample", lambda f: f(model.encode(images))),
    (vae, "Posterior.kl", lambda f: f(model.encode(images))),
    (features, "Autoencoder.features", lambda f: f(features.Autoencoder((1, 28, 28), 16), images)),
    (features, "Autoencoder.reconstruct", lambda f: f(features.Autoencoder((1, 28, 28), 16), images)),
    (features, "Classifier.forward", lambda f: f(features.Classifier((1, 28, 28), 10), images)),
    (interpolation, "linear_path", lambda f: f(torch.randn(2, 6), torch.randn(2, 6), 5)),
    (interpolation, "cycle_error", lambda f: f(model, images, 3, 4)),
    (geodesics, "straight", lambda f: f(torch.randn(2, 6), torch.randn(2, 6))),
    (geodesics, "geodesics", lambda f: f(model.decode, torch.randn(2, 6), torch.randn(2, 6), 3, 5, 1)),
    (geodesics, "lengths", lambda f: f(model.decode, geodesics.straight(torch.randn(2, 6), torch.randn(2, 6)), 3)),
    (geodesics, "at_equal_lengths", lambda f: f(torch.sin, geodesics.straight(torch.ones(2, 6), torch.zeros(2, 6)), 3)),
    (attacks, "symmetric_kl", lambda f: f(model.encode(images), model.encode(images))),
    (frechet, "frechet_distance", lambda f: f(torch.randn(20, 3), torch.randn(30, 3))),
    (reconstruction, "reconstruction", lambda f: f(model, images)),
    (distances, "diagram_distances", lambda f: f(torch.randn(40, 3), torch.randn(20, 3), 16, 2)),
]


@pytest.mark.parametrize(("module", "name", "call"), calls, ids=[name for _, name, _ in calls])
def test_shapes_are_as_the_signature_says(module, name, call):
    function = module
    for part in name.split("."):
        function = getattr(function, part)
    function = getattr(function, "__wrapped__", function)
    names = {**vars(module), "Float": Float, "Bool": Bool, "Int": Int, "Diagram": Diagram, "Landmarks": landmarks.Landmarks}
    hints = typing.get_type_hints(function, globalns=names)
    checked = jaxtyping.jaxtyped(_with_hints(function, hints), typechecker=beartype.beartype)
    call(checked)


def _with_hints(function, hints):
    """A twin of the function whose annotations are resolved."""
    twin = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    functools.update_wrapper(twin, function, assigned=("__module__", "__qualname__", "__doc__"), updated=())
    del twin.__wrapped__
    twin.__kwdefaults__, twin.__annotations__ = function.__kwdefaults__, hints
    return twin


def test_a_wrong_shape_would_be_found():
    def first(x: Float[torch.Tensor, "n d"]) -> Float[torch.Tensor, "n d"]:
        return x[0]

    checked = jaxtyping.jaxtyped(_with_hints(first, typing.get_type_hints(first)), typechecker=beartype.beartype)
    with pytest.raises(jaxtyping.TypeCheckError):
        checked(torch.randn(4, 3))
