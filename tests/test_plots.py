from __future__ import annotations

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from topo_utils import plots
from topo_utils.topology import TopologicalLoss, landscape


@pytest.fixture
def shapes():
    cloud = torch.randn(30, 3)
    loss = TopologicalLoss().fit(cloud)
    diagrams = loss.diagrams(cloud)
    return cloud, diagrams, [landscape(diagram, loss.grid) for diagram in diagrams], loss.grid


def figures(shapes):
    cloud, diagrams, landscapes, grid = shapes
    history = pd.DataFrame({"epoch": range(3), "reconstruction": 1.0, "kl": 2.0, "validation_kl": 2.0})
    both = {"vae": history, "topovae": history.assign(topological=0.1)}
    spaces = {"data": cloud, "vae": cloud, "topovae": cloud}
    return {
        "image_rows": plots.image_rows({"data": torch.rand(4, 1, 8, 8), "vae": torch.rand(3, 3, 8, 8)}, ends=("0", "7")),
        "diagrams": plots.diagrams_and_landscapes(diagrams, landscapes, grid),
        "curves": plots.training_curves(both),
        "latent": plots.latent_spaces(spaces, torch.arange(30) % 10, dict.fromkeys(spaces, landscapes), grid),
    }


def test_every_figure_draws_something_names_its_axes_and_is_closed(shapes):
    for name, figure in figures(shapes).items():
        drawn = io.BytesIO()
        figure.savefig(drawn)
        assert drawn.tell() > 5_000, name
        if name in ("diagrams", "curves"):
            assert all(axis.get_xlabel() or axis.get_ylabel() for axis in figure.axes), name
    assert not plt.get_fignums()


def test_a_model_has_one_colour_everywhere(shapes):
    for name in ("curves", "latent"):
        figure = figures(shapes)[name]
        lines = [line for axis in figure.axes for line in axis.get_lines() if line.get_label() == "TopoVAE"]
        assert lines
        assert {line.get_color() for line in lines} == {plots.COLOURS["topovae"]}


def test_the_principal_plane_keeps_most_variance():
    cloud = torch.randn(200, 5) * torch.tensor([5.0, 3.0, 0.1, 0.1, 0.1])
    points, share = plots.principal_plane(cloud)
    assert share > 0.99
    np.testing.assert_allclose(points.var(axis=0), [25, 9], rtol=0.3)
    turned, _ = plots.principal_plane(-cloud)
    np.testing.assert_allclose(np.abs(turned), np.abs(points), rtol=1e-4, atol=1e-4)
