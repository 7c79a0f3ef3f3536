from __future__ import annotations

import pytest
import torch

from topo_utils.models.unet import ResidualMLP, UNet

NETWORKS = [
    (UNet, (1, 28, 28)),
    (UNet, (3, 32, 32)),
    (UNet, (1, 64, 64)),
    (ResidualMLP, (2,)),
    (ResidualMLP, (9, 3)),
    (ResidualMLP, (8, 8)),
]


def trained(network, shape, condition=None):
    """``network`` after a step towards random outputs, and the inputs of that step."""
    x, level = torch.randn(6, *shape), torch.linspace(-1, 1, 6)
    for _ in range(3):
        (network(x, level, condition) - torch.randn(x.shape)).square().mean().backward()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 0.1 * parameter.grad.sign()
        network.zero_grad()
    return network.requires_grad_(False), x, level


@pytest.mark.parametrize(("kind", "shape"), NETWORKS)
def test_shapes_come_back_and_are_zero_before_training(kind, shape):
    network = kind(shape, width=16)
    x = torch.randn(2, *shape)
    out = network(x, torch.zeros(2))
    assert out.shape == x.shape
    assert (out == 0).all()
    assert (trained(network, shape)[0](x, torch.zeros(2)) != 0).any()


@pytest.mark.parametrize(("kind", "shape"), [NETWORKS[0], NETWORKS[4]])
def test_every_weight_learns(kind, shape):
    network, x, level = trained(kind(shape, width=16, classes=2), shape, torch.arange(6) % 2)
    network.requires_grad_(True)
    network(x, level, torch.arange(6) % 2).square().sum().backward()
    assert all((parameter.grad != 0).any() for parameter in network.parameters())


@pytest.mark.parametrize(("kind", "shape"), [NETWORKS[0], NETWORKS[4]])
def test_noise_level_and_class_change_the_output(kind, shape):
    classes = torch.arange(6) % 3
    network, x, level = trained(kind(shape, width=16, classes=3), shape, classes)
    out = network(x, level, classes)
    assert (out != network(x, level + 0.1, classes)).flatten(1).any(1).all()
    assert (out != network(x, level, (classes + 1) % 3)).flatten(1).any(1).all()
    torch.testing.assert_close(network(x[:1], level[:1], classes[:1]), out[:1], atol=1e-4, rtol=1e-4)


def test_wrong_arguments_are_named():
    x, level = torch.randn(4, 2), torch.zeros(4)
    with pytest.raises(ValueError, match="condition: wanted None, as the network was made without classes"):
        ResidualMLP((2,))(x, level, torch.zeros(4, dtype=torch.long))
    network = ResidualMLP((2,), classes=3)
    wanted = "condition: wanted the class of each of 4 items, integers from 0 to 2, got "
    with pytest.raises(ValueError, match=wanted + "None"):
        network(x, level)
    with pytest.raises(ValueError, match=wanted + r"a tensor of shape \(3,\) and type torch.int64"):
        network(x, level, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=wanted + r"a tensor of shape \(4,\) and type torch.float32"):
        network(x, level, level)
    with pytest.raises(ValueError, match=wanted + "values from 0 to 3"):
        network(x, level, torch.tensor([0, 1, 2, 3]))
    with pytest.raises(ValueError, match=r"shape: wanted .* multiples of 4, got \(1, 30, 28\)"):
        UNet((1, 30, 28))
    with pytest.raises(ValueError, match="width: wanted a multiple of 8, got 20"):
        UNet((1, 28, 28), width=20)
    with pytest.raises(ValueError, match="classes: wanted at least 1, or None"):
        UNet((1, 28, 28), classes=0)
