from __future__ import annotations

import io

import matplotlib.pyplot as plt
import pytest
import torch

from topo_utils import plots
from topo_utils.datasets import REGISTRY
from topo_utils.topology import TopologicalLoss

DIGITS, TORUS = REGISTRY["digits"].domain, REGISTRY["torus"].domain


def figures():
    images, points = torch.rand(3, 5, 1, 8, 8), torch.randn(3, 30, 3)
    diagrams = TopologicalLoss().diagrams(points[0])
    kept = torch.tensor([True, False])
    wanted, counted = torch.tensor([1, 1, 2, 2]), torch.tensor([1, 3, 2, 0])
    return {
        "noise of images": plots.noise_levels(DIGITS, {"x_t": images, "x̃_t": images}, [0.1, 1.0, 5.0], 0.5),
        "noise of points": plots.noise_levels(TORUS, {"x_t": points}, [0.1, 1.0, 5.0]),
        "shape": plots.shape_against_noise([0.1, 1.0], {"diffusion": [0.1, 1.0]}, 0.2, 0.5, "L_topo"),
        "path of images": plots.denoising_trajectory(
            DIGITS, {"σ = 1": (images[0], diagrams), "data": (images[1], diagrams)}
        ),
        "path of points": plots.denoising_trajectory(TORUS, {"σ = 1": (points[0], diagrams)}),
        "bars": plots.bars_kept(
            torch.rand(8, 8), torch.tensor([[0.9, 0.0], [0.5, 0.2]]), {"c = 1": (kept, torch.randn(8, 8))}
        ),
        "masks": plots.masks_by_number({"data": (images[0, :4], wanted, counted)}, "β₀", columns=2),
    }


def test_every_figure_draws_something_and_is_closed():
    for name, figure in figures().items():
        drawn = io.BytesIO()
        figure.savefig(drawn)
        assert drawn.tell() > 3_000, name
    assert not plt.get_fignums()


def test_a_count_has_the_colour_of_whether_it_is_the_wanted_one():
    figure = figures()["masks"]
    right = {axis.get_title(): axis.title.get_color() for axis in figure.axes if axis.get_title()}
    assert right["1"] == right["2"] != right["3"] == right["0"]


def test_only_compared_levels_have_bold_titles():
    weights = [axis.title.get_weight() for axis in figures()["noise of images"].axes[:3]]
    assert weights == ["bold", "normal", "normal"]


def test_all_diagrams_of_a_path_have_the_same_axes():
    figure = figures()["path of images"]
    assert len({axis.get_ylim() for axis in figure.axes[2:]}) == 1


@pytest.mark.parametrize("family", [plots.COLOURS, plots.NAMES], ids=["colours", "names"])
def test_every_model_that_a_configuration_can_name_is_known(family):
    controls = ("distances", "critical-edges", "critical-edges-h1", "energy", "gaussian", "shuffled")
    assert {f"diffusion-{control}" for control in controls} <= set(family)
