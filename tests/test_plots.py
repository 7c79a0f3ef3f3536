from __future__ import annotations

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from topo_utils import plots
from topo_utils.datasets import REGISTRY
from topo_utils.datasets.molecules import from_smiles
from topo_utils.topology import Diagram, TopologicalLoss, landscape, pairwise_distances, persistent_homology


@pytest.fixture
def shapes():
    cloud = torch.randn(30, 3)
    loss = TopologicalLoss().fit(cloud)
    diagrams = loss.diagrams(cloud)
    return cloud, diagrams, [landscape(diagram, loss.grid) for diagram in diagrams], loss.grid


def figures(shapes):
    cloud, diagrams, landscapes, grid = shapes
    history = pd.DataFrame({"epoch": range(3), "reconstruction": 1.0, "kl": 2.0, "validation_kl": 2.0})
    both = {"vae": history, "topovae": history.assign(topological_latent=0.1)}
    spaces = {"data": cloud, "vae": cloud, "topovae": cloud}
    return {
        "image_rows": plots.image_rows({"data": torch.rand(4, 1, 8, 8), "vae": torch.rand(3, 3, 8, 8)}, ends=("0", "7")),
        "diagrams": plots.diagrams_and_landscapes(diagrams, landscapes, grid),
        "side_by_side": plots.diagrams_side_by_side({"a cloud": diagrams, "again": diagrams}),
        "complexes": plots.rips_complexes(cloud[:, :2], {"t = 0": 0.0, "t = 1": 1.0}, {"t = 1": (0, 1)}),
        "filtration": plots.filtration(cloud[:, :2], pairwise_distances(cloud), diagrams, [0.0, 1.0]),
        "lines": plots.curves(
            {"one": {"a": (grid, grid + 1), "_b": (grid, grid)}, "two": {"_c": (grid, grid)}}, "t", ["x", "y"]
        ),
        "logarithmic": plots.curves({"one": {"a": ([1, 10], [1, 100])}}, "t", "y", True, {"a": {"linestyle": "--"}}),
        "strips": plots.strips({"one": {"a": [1.0, 2.0], "b": torch.rand(5)}, "two": {"b": [3.0]}}, "length"),
        "matching": plots.matching(diagrams[1], diagrams[1], [(torch.zeros(2), torch.ones(2))]),
        "heat_maps": plots.heat_maps({str(i): torch.rand(3, 4) for i in range(4)}, (0, 1, 0, 2)),
        "curves": plots.training_curves(both),
        "latent": plots.latent_spaces(spaces, torch.arange(30) % 10, dict.fromkeys(spaces, landscapes), grid),
        **gradient_figures(),
        **regulariser_figures(landscapes[0], grid),
        **domain_figures(diagrams),
        **experiment_figures(),
    }


def experiment_figures():
    """Of notebooks 09 to 15."""
    rows = [
        {"dataset": data, "model": model, "seed": seed, "kl": seed + 1.0, "off_manifold": float("nan")}
        for data in ("torus", "digits")
        for model in ("vae", "topovae")
        for seed in range(3)
    ]
    found = pd.DataFrame(
        [
            {"dataset": data, "prediction": name, "difference": -0.1, "low": -0.2, "high": 0.0, "verdict": verdict}
            for data in ("torus", "digits")
            for name, verdict in (("paths", "confirmed"), ("attacks", "not decided"))
        ]
    )
    trained = [
        {"model": model, "seed": seed, "train_items": items, "budget": budget, "kl": seed + items / 100}
        for model, sizes in {"vae": (500, 2000), "topovae": (500, 2000), "vae-with-features-steps": (500,)}.items()
        for items in sizes
        for budget in ("468 steps", "2,340 steps")
        for seed in range(3)
    ]
    surface = pd.DataFrame([[1.0, -2.0], [0.5, float("nan")]], pd.Index([1, 2], name="β"), pd.Index(["x", "y"], name="γ"))
    return {
        "by seed": plots.by_seed(pd.DataFrame(rows), {"kl": "KL", "off_manifold": "not there"}, ["vae", "topovae", "none"]),
        "learning curves": plots.learning_curves(
            pd.DataFrame(trained), {"kl": "KL"}, ["vae", "topovae", "vae-with-features-steps"]
        ),
        "surfaces": plots.surfaces({"a": surface, "b": surface.iloc[:1]}, "score"),
        "effects": plots.effects(found, {"paths": 0.1, "attacks": 0.1}),
    }


def gradient_figures():
    """Of notebook 03."""
    cloud, t = torch.randn(20, 2), torch.linspace(0, 1, 5)
    diagrams = TopologicalLoss().diagrams(cloud)
    edges = torch.tensor([[0, 1], [2, 3]])
    image, values = torch.rand(8, 8), [1.0, 0.5, 0.1]
    runs = {"a": {0: cloud, 3: cloud}, "b": {0: cloud}}
    return {
        "side by side": plots.diagrams_side_by_side({"before": diagrams, "after": diagrams}),
        "edges": plots.critical_edges(cloud, {"tree": edges, "birth": edges[:1], "death": edges[1:]}, cloud),
        "slopes": plots.values_and_slopes({"family": (t, t**2, 2 * t)}),
        "optimisation": plots.cloud_optimisation(runs, {"a": values, "b": values}, cloud),
        "paths": plots.optimised_paths({"a": torch.randn(5, 20, 2)}, {"a": values}, "persistence"),
        "reach": plots.gradient_reach((16, 32), {"H0": [(1.0, 2.0), (1.0, 3.0)]}),
        "image": plots.image_optimisation({"noisy": image}, image - 0.5, values),
    }


def regulariser_figures(levels, grid):
    """Of notebook 04."""
    images = [torch.rand(6, 6), torch.rand(6, 6)]
    pairs = np.random.default_rng(0).random((4, 2)) + 0.1
    traces = {(kind, d): pairs for kind in ("through", "detached") for d in (2, 10)}
    bar, there = torch.tensor([[0.2, 0.9]]), torch.tensor([True])
    return {
        "apart": plots.landscapes_apart(Diagram(bar + 1, there), {"a bar": (Diagram(bar, there), bar - 0.5)}, grid),
        "representations": plots.representations([levels, levels + 0.1], images, grid),
        "losses": plots.loss_curves(torch.arange(3), {"fixed": [1.0, 0.0, 2.0]}, "s", "loss"),
        "levels": plots.levels_kept([1, "all"], {"H0": torch.rand(2, 2), "H1": torch.rand(2, 2)}),
        "scale": plots.scale_traces(traces),
        "signal": plots.signal_against_nulls({n: torch.rand(6, 2, 2) + 0.1 for n in (16, 32)}, ("real", "Gaussian")),
        "overlaid": plots.overlaid({"codes": (torch.randn(40, 3), {n: torch.randn(30, 3) for n in ("own", "fitted")})}),
        "norms": plots.gradient_norms({0: pairs, 10: pairs}, {0: 1.0, 10: 30.0}),
        "costs": plots.costs({"pairing": ((32, 64), {"rips": [0.1, 0.4], "ripser": [1.0]})}),
    }


def domain_figures(diagrams):
    """Of notebook 05."""
    domains = {name: source.domain for name, source in REGISTRY.items()}
    ring = torch.zeros(6, 6).index_put((torch.tensor([1, 1, 2]), torch.tensor([1, 2, 1])), torch.tensor(0.7))
    rows = {
        "digits": (domains["digits"], ring.expand(3, 1, 6, 6)),
        "nci": (domains["nci"], from_smiles("C1CCC1")[None]),
        "adk": (domains["adk"], torch.randn(2, 9, 3)),
        "social": (domains["social"], torch.ones(1, 32, 32) - torch.eye(32)),
        "torus": (domains["torus"], torch.randn(2, 3)),
    }
    table = pd.DataFrame([[0.2, 0.9], [float("nan"), 0.5]], index=["a", "b"]).rename_axis(columns="n")
    draws = {"a": torch.rand(5, 2), "b": torch.rand(5, 2)}
    return {
        "items": plots.item_rows(rows),
        "items over diagrams": plots.items_over_diagrams({"x": (domains["digits"], ring[None], diagrams)}),
        "superlevel sets": plots.superlevel_sets(ring, [0.3, 0.5, 0.9]),
        "shares": plots.shares({"x": table.fillna(0), "y": table.fillna(0)}, "share"),
        "chance": plots.shares_against_chance(
            {str(k): table for k in range(4)}, {str(k): table > 0.8 for k in range(4)}, "p"
        ),
        "loops found": plots.loops_found({"x": {8: [1, 2], 16: [1, 1]}, "y": {8: [0]}}, {"x": 1, "y": 0}),
        "kinds": plots.kinds_compared({"longest": draws, "total": draws}, ("real", "null"), "length"),
    }


PICTURES = {"image_rows", "latent", "optimisation", "paths", "image"}  # some of their panels show no quantity on an axis
PICTURES |= {"items over diagrams", "chance", "overlaid"}
NO_AXES = {"items", "superlevel sets"}


def test_every_figure_draws_something_names_its_axes_and_is_closed(shapes):
    for name, figure in figures(shapes).items():
        drawn = io.BytesIO()
        figure.savefig(drawn)
        assert drawn.tell() > 5_000, name
        shown = [axis for axis in figure.axes if axis.get_visible()]
        named = [axis for axis in shown if axis.get_xlabel() or axis.get_ylabel()]
        assert name in NO_AXES or (named if name in PICTURES else named == shown), name
    assert not plt.get_fignums()


def test_a_rips_complex_has_the_edges_and_triangles_of_its_distance():
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    figure = plots.rips_complexes(square, {"sides": 1.0, "diagonals": 1.5})
    sides, diagonals = (axis.get_title().splitlines()[1] for axis in figure.axes)
    assert sides == "4 edges, 0 triangles"
    assert diagonals == "6 edges, 4 triangles"
    weights = torch.cdist(square, square).masked_fill(torch.tensor([0, 1, 0, 1]).bool() & ~torch.eye(4).bool(), torch.inf)
    figure = plots.rips_complexes(square, {"all": 9.0}, weights=weights.maximum(weights.T))
    assert figure.axes[0].get_title().endswith("1 edges, 0 triangles")


def test_a_filtration_says_what_is_alive_at_each_value():
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    weights = pairwise_distances(square)
    figure = plots.filtration(square, weights, persistent_homology(weights), [0.5, 1.2, 1.5])
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["t = 0.50: β₀ = 4, β₁ = 0", "t = 1.20: β₀ = 1, β₁ = 1", "t = 1.50: β₀ = 1, β₁ = 0"]


def test_superlevel_sets_are_named_by_their_betti_numbers():
    ring = torch.tensor([[0.9, 0.9, 0.9], [0.9, 0.1, 0.9], [0.9, 0.4, 0.9]])
    titles = [axis.get_title().splitlines()[1] for axis in plots.superlevel_sets(ring, [0.95, 0.9, 0.4, 0.05]).axes[1:]]
    assert titles == ["β₀ = 0, β₁ = 0", "β₀ = 1, β₁ = 0", "β₀ = 1, β₁ = 1", "β₀ = 1, β₁ = 0"]


def test_what_is_seen_is_bold_and_what_was_not_measured_is_empty():
    table = pd.DataFrame([[0.2, 0.9], [float("nan"), 0.5]])
    cells = plots.shares_against_chance({"x": table}, {"x": table > 0.8}, "share").axes[0].texts
    assert [cell.get_text() for cell in cells] == ["0.20", "0.90", "", "0.50"]
    assert [cell.get_weight() == "bold" for cell in cells] == [False, True, False, False]


def test_a_row_of_items_has_its_name_even_where_the_domain_draws_no_axis():
    molecule = REGISTRY["nci"].domain
    figure = plots.item_rows(
        {"one": (molecule, from_smiles("CC")[None]), "two": (molecule, from_smiles("CO").expand(2, -1))}
    )
    assert [axis.texts[0].get_text() for axis in figure.axes[::2]] == ["one", "two"]
    assert [axis.get_visible() for axis in figure.axes] == [True, False, True, True]


def test_negative_births_are_within_the_axes():
    diagrams = REGISTRY["digits"].domain.diagrams(torch.rand(1, 1, 8, 8))
    (axis,) = plots.diagrams_side_by_side({"image": diagrams}).axes
    births = torch.cat([diagram.points[diagram.mask][:, 0] for diagram in diagrams])
    assert axis.get_xlim()[0] <= births.min() < births.max() < axis.get_xlim()[1]
    assert axis.get_xlim()[1] > 0


def test_arrows_show_the_way_of_descent():
    """Against the gradient, the longest a quarter of the grid."""
    bar, there = torch.tensor([[0.5, 2.0]]), torch.tensor([True])
    rows = {"near": (Diagram(bar, there), torch.tensor([[-1.0, 0.0]])), "far": (Diagram(bar, there), torch.zeros(1, 2))}
    figure = plots.landscapes_apart(Diagram(bar, there), rows, torch.linspace(0, 4, 9))
    arrows = [axis.collections[-1] for axis in figure.axes[::2]]
    assert [(float(each.U[0]), float(each.V[0])) for each in arrows] == [(1.0, 0.0), (0.0, 0.0)]


def test_a_strip_shows_every_value_and_the_mean():
    (axis,) = plots.strips({"": {"a": [1.0, 2.0, 6.0]}}, "length").axes
    assert axis.collections[0].get_offsets()[:, 0].tolist() == [1.0, 2.0, 6.0]
    assert axis.get_lines()[0].get_xdata()[0] == 3.0


def test_voids_have_a_colour_of_their_own(shapes):
    _, diagrams, _, _ = shapes
    (axis,) = plots.diagrams_side_by_side({"sphere": [*diagrams, diagrams[1]]}).axes
    assert [text.get_text().split(",")[0] for text in axis.get_legend().get_texts()] == ["H0", "H1", "H2"]


def test_no_arrow_where_the_vector_is_zero():
    cloud, arrows = torch.randn(9, 2), torch.zeros(9, 2)
    arrows[3] = 1.0
    figure = plots.critical_edges(cloud, {"tree": torch.tensor([[0, 1]])}, arrows)
    (quiver,) = (each for each in figure.axes[1].collections if hasattr(each, "U"))
    assert len(quiver.U) == 1


def test_a_zero_leaves_a_gap_on_a_logarithmic_axis():
    (line,) = plots.loss_curves(torch.arange(3), {"fixed": [1.0, 0.0, 2.0]}, "s", "loss").axes[0].get_lines()
    assert np.isnan(line.get_ydata()).tolist() == [False, True, False]


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


def test_other_points_are_placed_on_the_axes_of_the_cloud():
    cloud = torch.tensor([[1.0, 2.0, 0.0], [-5.0, 2.0, 0.0], [-2.0, 3.0, 0.0], [-2.0, 1.0, 0.0]])  # centre (-2, 2, 0)
    other = torch.tensor([[0.0, 7.0, 9.0]])
    placed, share = plots.principal_plane(cloud, other)
    assert share == 1
    np.testing.assert_allclose(np.abs(placed), [[2, 5]], atol=1e-12)
    origin, _ = plots.principal_plane(cloud, cloud.mean(0, keepdim=True))
    np.testing.assert_allclose(origin, 0, atol=1e-12)
