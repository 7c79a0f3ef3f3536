"""Every model, domain and loss away from the CPU: no tensor is left behind, and the numbers are the CPU's.

Machines that test rarely have a GPU. So there is a device here that computes on the CPU and refuses what a GPU refuses.
It bears the name ``meta``, which torch knows; unlike torch's own meta tensors, those here hold values.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from unittest import mock

import pytest
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

from topo_utils import datasets, evaluation
from topo_utils.config import DiffusionConfig, VAEConfig
from topo_utils.models.diffusion import Diffusion
from topo_utils.models.features import Autoencoder, Identity
from topo_utils.models.unet import ResidualMLP
from topo_utils.training import Batch, Specification, Training, trainer

# what an untrained decoder makes is nearly all the same
pytestmark = pytest.mark.filterwarnings("ignore:most bars are shorter than the first step")

DEVICE = "meta"
MOVES = ("aten::_to_copy", "aten::copy_")
INDEXING = ("aten::index", "aten::_unsafe_index", "aten::index_put", "aten::index_put_")  # indices may lie on the CPU


class There(torch.Tensor):
    """A tensor on the device; ``value`` is where it really is."""

    @staticmethod
    def __new__(cls, value: torch.Tensor) -> There:
        it = torch.Tensor._make_wrapper_subclass(
            cls,
            value.shape,
            strides=value.stride(),
            storage_offset=value.storage_offset(),
            dtype=value.dtype,
            device=DEVICE,
        )
        it.value = value
        return it

    def tolist(self) -> list:
        return self.value.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})


class Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})


def compute(func, args, kwargs):
    tensors = [each for each in pytree.arg_tree_leaves(*args, **kwargs) if isinstance(each, torch.Tensor)]
    there = any(isinstance(each, There) for each in tensors)
    if there and func._schema.name not in MOVES:
        checked = [each for each in tensors if each.is_floating_point()] if func._schema.name in INDEXING else tensors
        if not all(isinstance(each, There) or each.ndim == 0 for each in checked):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device")
    wanted = kwargs.get("device")
    goes_there = there if wanted is None else torch.device(wanted).type == DEVICE
    if func._schema.name == "aten::copy_":
        goes_there = isinstance(args[0], There)
    values, options = pytree.tree_map_only(There, lambda each: each.value, (args, kwargs))
    out = func(*values, **options if wanted is None else options | {"device": "cpu"})
    if not goes_there:
        return out
    return return_and_correct_aliasing(func, args, kwargs, pytree.tree_map_only(torch.Tensor, There, out))


@contextlib.contextmanager
def elsewhere():
    """Within, ``.to("meta")`` moves tensors and modules to the device, and ``.cpu()`` back."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with Dispatch(), mock.patch("torch.autocast", return_value=contextlib.nullcontext()):
            yield DEVICE
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


SMALL = {"batch_size": 32, "cloud_size": 16, "width": 8, "accelerator": "cpu"}
DOMAINS: dict[str, str] = {}  # the first data set of each, which is embedded
for source in datasets.REGISTRY.values():
    DOMAINS.setdefault(source.domain.name, source.name)
VAES = [
    *[{f"gamma_{each}": 1.0} for each in ("latent", "reconstruction", "generated", "sample")],
    {"gamma_latent": 1.0, "representation": "image"},
    {"gamma_latent": 1.0, "filtration": "knn", "k": 5},
    {"gamma_latent": 1.0, "regularizer": "distances"},
    {"gamma_reconstruction": 1.0, "regularizer": "critical-edges-h1"},
    {"gamma_generated": 1.0, "regularizer": "energy"},
    {"gamma_latent": 1.0, "regularizer": "gaussian"},
    {"gamma_latent": 1.0, "regularizer": "shuffled"},
]
DIFFUSIONS = [
    {"gamma_denoised": 1.0},
    {"gamma_sample": 1.0},
    *[{"gamma_betti": 1.0, "condition": "components", "betti_form": form} for form in ("paper", "code")],
]


@functools.cache
def domain(name: str) -> tuple[datasets.Dataset, torch.nn.Module]:
    """Training items of a domain, and an untrained F."""
    train = datasets.load(DOMAINS[name], "train", limit=48)
    features = Identity() if name == "points" else Autoencoder(train.shape, 6, name, width=4)
    return train, features.requires_grad_(False).eval()


def meaningful(name: str, options: dict) -> bool:
    """Points have no topology of their own, and only images have Betti numbers."""
    return not ("gamma_sample" in options and name == "points") and (
        "gamma_betti" not in options or name in ("images", "masks")
    )


def cases(choices: list[dict]) -> pytest.MarkDecorator:
    pairs = [(name, options) for name in DOMAINS for options in choices if meaningful(name, options)]
    return pytest.mark.parametrize(("name", "options"), pairs, ids=lambda each: str(each).strip("{}"))


def step(module: Training, train: datasets.Dataset, device: str) -> tuple[float, list[torch.Tensor]]:
    """Loss of one training step with the whole regulariser, and its gradient."""
    module, config = copy.deepcopy(module).to(device), module.config
    with torch.no_grad():
        batch = trainer._data(train.take(torch.arange(config.batch_size)), Specification.of(config, train))
        items, known = batch.items.to(device), {name: each.to(device) for name, each in batch.known.items()}
        batch = Batch(items, module.initial_autoencoder.features(items), known)
    batch = batch._replace(references=module.references(batch))
    torch.manual_seed(1)
    loss, _, comparisons = module.objective(batch)
    loss = loss + sum(gamma * comparisons[name]() for name, gamma in config.gammas.items())
    assert loss.device == batch.items.device
    loss.backward()
    return loss.item(), [each.grad.cpu() for each in module.model.parameters() if each.grad is not None]


def the_same_there(config: VAEConfig | DiffusionConfig, train: datasets.Dataset, features: torch.nn.Module) -> None:
    module = trainer._module(Specification.of(config, train), train, features)
    here, gradients_here = step(module, train, "cpu")
    with elsewhere() as device:
        there, gradients_there = step(module, train, device)
    assert there == pytest.approx(here, rel=1e-4)
    torch.testing.assert_close(
        gradients_there, gradients_here, rtol=1e-2, atol=1e-3 * max(g.abs().max() for g in gradients_here)
    )


@pytest.mark.filterwarnings("ignore:most bars end beyond the grid")
@cases(VAES)
def test_a_step_of_a_vae(name, options):
    train, features = domain(name)
    the_same_there(VAEConfig(dataset=train.name, latent_dimension=4, **options, **SMALL), train, features)


@pytest.mark.filterwarnings("ignore:most bars end beyond the grid")
@cases(DIFFUSIONS)
def test_a_step_of_a_diffusion_model(name, options):
    train, features = domain(name)
    the_same_there(DiffusionConfig(dataset=train.name, **options, **SMALL, topological_sigma=5.0), train, features)


def test_samples():
    model = Diffusion(ResidualMLP((8,), 16, classes=3), (8,)).fit_scale(torch.randn(20, 8))
    torch.nn.init.normal_(model.network.last[2].weight)
    asked = torch.arange(10) % 3
    here = evaluation.sample(model, 10, condition=asked)
    with elsewhere() as device:
        torch.testing.assert_close(evaluation.sample(model, 10, condition=asked, device=device), here)
    assert {each.device.type for each in model.parameters()} == {"cpu"}


def test_the_device_refuses_what_a_gpu_refuses():
    with elsewhere() as device:
        x = torch.arange(3.0).to(device)
        assert (2 * x + torch.tensor(1.0)).cpu().tolist() == [1, 3, 5]
        with pytest.raises(RuntimeError, match="same device"):
            x + torch.zeros(3)
        with pytest.raises(RuntimeError, match="same device"):
            torch.zeros(2, 3) @ x
        with pytest.raises(RuntimeError):
            x.numpy()
