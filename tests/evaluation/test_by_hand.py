"""Every metric of ``evaluate`` and ``evaluate_samples`` on data so small that the right value is known by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from topo_utils import evaluation
from topo_utils.datasets import Dataset, graphs, load, molecules, proteins
from topo_utils.datasets.shapes import CIRCLE, Points
from topo_utils.evaluation import intervals
from topo_utils.metrics import described
from topo_utils.models.features import Identity
from topo_utils.models.priors import Aggregate
from topo_utils.models.vae import Posterior


def dataset(domain, items, split="test", unit=1.0):
    return Dataset("tiny", split, domain, torch.as_tensor(items), torch.zeros(len(items), dtype=torch.int64), {}, unit)


def circle(items, split="test"):
    return dataset(Points(CIRCLE), torch.as_tensor(items, dtype=torch.float32), split)


class Distance(nn.Module):
    """A likelihood whose nats are how far the item is above the mean, and twice how far below, coordinate by coordinate."""

    def nats(self, parameters, x):
        above = x - parameters
        return torch.maximum(above, -2 * above).flatten(1).sum(1)

    def mean(self, parameters):
        return parameters


class Halving(nn.Module):
    """Codes are items, halved; the variance of the second dimension is 4. No VAE, but of the same form."""

    likelihood = Distance()

    def encode(self, x):
        return Posterior(x / 2, torch.tensor([0.0, math.log(4)]).expand(len(x), 2))

    def parameters_of(self, z):
        return z

    decode = parameters_of

    def sample(self, count, generator=None, condition=None):
        return torch.randn(count, 2, generator=generator)


def test_reconstruction_sums_over_an_item_and_takes_the_mean_over_the_items():
    items = torch.tensor([[0.0, 0], [6, 8], [1, 0]])
    found = evaluation.reconstruction(Halving(), items)
    errors = torch.tensor([0, 25, 0.25])  # ‖x / 2‖²
    assert found["reconstruction_error"] == pytest.approx(errors.mean().item())
    ends = intervals.of_mean("reconstruction_error", errors)
    assert {end: found[end] for end in ends} == pytest.approx(ends)
    assert found["reconstruction_nats"] == pytest.approx((0 + 7 + 0.5) / 3)
    variance = (4 - 1 - math.log(4)) / 2  # what the second dimension's variance adds to every item's KL
    assert found["kl"] == pytest.approx((0 + 25 + 0.25) / 3 / 2 + variance)


def test_units_are_active_whose_mean_kl_is_above_a_hundredth():
    class Given(Halving):
        def encode(self, x):
            return Posterior(x, torch.zeros_like(x))  # KL is x² / 2 in each dimension

    kl = torch.tensor([[0.6, 0.02, 0.015, 0.03, 0.0], [0.6, 0.0, 0.0, 0.03, 0.0]])  # means: .6, .01 - ε, .0075, .03, 0
    found = evaluation.reconstruction(Given(), (2 * kl * torch.tensor([1, 0.99, 1, 1, 1])).sqrt())
    assert found["active_units"] == 2
    assert isinstance(found["active_units"], int)


class Bent(Halving):
    """Codes are items; decoding moves all but 0 and 1."""

    def encode(self, x):
        return Posterior(x, torch.zeros_like(x))

    def parameters_of(self, z):
        return z + z * (1 - z)

    decode = parameters_of


def test_the_cycle_error_is_that_of_the_inner_points_between_two_different_items():
    items = torch.tensor([[0.0, 0], [1, 1]])  # any pair of them has the same path
    cycles = [(0.4375, 0.68359375), (0.75, 0.9375), (0.9375, 0.99609375)]  # decoded ¼, ½ and ¾, and decoded again
    errors = [2 * (again - once) ** 2 for once, again in cycles]  # two coordinates
    assert evaluation.cycle_error(Bent(), items, steps=3) == pytest.approx(errors[1])
    assert evaluation.cycle_error(Bent(), items, steps=5) == pytest.approx(sum(errors) / 3)


def test_the_pairs_of_the_cycle_error_depend_on_the_seed():
    items = torch.rand(50, 2)
    first, again, other = (evaluation.cycle_error(Bent(), items, 5, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


class Judge(nn.Module):
    """Sure of its class to 91 % where the first coordinate is above 0, to 89 % elsewhere; its feature is the second one."""

    def features(self, x):
        return x[:, 1:]

    def forward(self, x):
        sure = torch.where(x[:, 0] > 0, 0.91, 0.89)
        return torch.stack([sure, 1 - sure], 1).log()


def judged(samples, data, seed=0, judge=None):
    train = circle(torch.rand(8, 2), "train")
    return evaluation.evaluate_samples(samples, data, train, Identity(), judge or Judge(), seed)


def test_the_judge_is_sure_of_three_of_four_samples():
    data = circle(-torch.rand(8, 2))  # of none of the real items
    samples = torch.tensor([[1.0, 0], [2, 1], [0.1, 2], [-1, 3]])
    assert judged(samples, data)["confident_samples"] == 0.75


def test_metrics_of_a_judge_are_there_only_where_there_is_one():
    data, samples = circle(torch.rand(8, 2)), torch.rand(6, 2)
    without = evaluation.evaluate_samples(samples, data, data, Identity(), None)
    with_one = evaluation.evaluate_samples(samples, data, data, Identity(), Judge())
    assert without == {name: with_one[name] for name in without}
    assert all("classifier" in name or name == "confident_samples" for name in with_one.keys() - without.keys())
    assert with_one.keys() - without.keys()


def test_another_family_with_encode_decode_and_sample_is_evaluated():
    class WithoutLikelihood(Halving):
        likelihood = None

    data = circle(torch.rand(10, 2))
    full, without = (evaluation.evaluate(model, data, data, Identity(), None) for model in (Halving(), WithoutLikelihood()))
    assert full.keys() - without.keys() == {"reconstruction_nats"}
    assert without == {name: full[name] for name in without}


DIAGRAMS = ("bottleneck", "wasserstein1", "wasserstein2", "landscape_energy")
ENDS = ("", "_standard_error")  # the floors are no model's


@pytest.mark.parametrize("seed", [0, 3])
def test_evaluate_is_of_the_split_and_of_as_many_samples_of_the_seed(digits, features, seed):
    from topo_utils.models.features import Classifier
    from topo_utils.models.vae import VAE

    train, data = digits[0], digits[1].subset(40)
    model, judge = VAE(data.shape, 3, width=8), Classifier(data.shape, 10).eval().requires_grad_(False)
    samples = evaluation.sample(model.eval(), 40, seed)
    density = Aggregate.fit(model, train.items, 10, seed)
    fitted = evaluation.evaluate_samples(
        evaluation.sample(model, 40, seed, density=density), data, train, features, judge, seed
    )
    shares = [f"{share}_classifier" for share in ("precision", "recall", "density", "coverage")]
    means = ["kid_classifier", *(f"{name}_h{h}" for name in DIAGRAMS for h in (0, 1))]
    names = ["frechet_classifier", "confident_samples", *shares, *(mean + end for mean in means for end in ENDS)]
    found = evaluation.evaluate(model, data, train, features, judge, seed)
    assert found == {
        **evaluation.reconstruction(model, data.items, seed),
        "interpolation_cycle_error": evaluation.cycle_error(model, data.items, seed=seed),
        **evaluation.evaluate_samples(samples, data, train, features, judge, seed),
        **{f"{name}_aggregate": fitted[name] for name in names},
    }
    assert all(described(name) for name in found)
    assert found["frechet_classifier_aggregate"] != found["frechet_classifier"]
    assert not torch.equal(samples, evaluation.sample(model, 40, seed + 1))


# --- of each domain


def rewritten(smiles, *slots):
    """The molecule's item with its atoms in other slots."""
    item = molecules.from_smiles(smiles)
    atoms, bonds = molecules.DOMAIN.atoms(item), molecules.DOMAIN.bonds(item)
    kinds, orders = [0] * 9, [0] * 36
    for old, new in enumerate(slots):
        kinds[new] = int(atoms[old].argmax())
    for (first, second), row in zip(molecules.PAIRS, bonds, strict=True):
        if int(row.argmax()):
            ends = tuple(sorted((slots[first], slots[second])))
            orders[molecules.PAIRS.index(ends)] = int(row.argmax())
    hot = one_hot(torch.tensor(kinds), 5), one_hot(torch.tensor(orders), 4)
    return torch.cat([part.flatten() for part in hot]).float()


def of_molecules(*smiles, split="test"):
    return dataset(molecules.DOMAIN, torch.stack([molecules.from_smiles(each) for each in smiles]), split)


def test_molecules_that_are_valid_different_and_new():
    train, data = of_molecules("CC", "CCO", split="train"), of_molecules("CCN", "CO", "CF")
    five_bonds = molecules.from_smiles("CC(C)(C)C")  # a carbon of four neighbours; one bond more is one too many
    pair = molecules.ATOMS * 5 + 4 * int(molecules.DOMAIN.bonds(five_bonds).argmax(-1).nonzero()[0])
    five_bonds[pair : pair + 4] = torch.tensor([0.0, 0, 1, 0])
    samples = torch.stack(
        [
            molecules.from_smiles("CC"),  # known
            rewritten("CCO", 5, 3, 1),  # known, but written otherwise
            molecules.from_smiles("CCN"),
            rewritten("CCN", 2, 1, 0),  # the same
            molecules.from_smiles("CO"),
            torch.zeros(189),  # nothing: every argmax is "none"
            five_bonds,
            molecules.from_smiles("CC") * 0.6,  # probabilities: rounded; the same as the first
        ]
    )
    found = evaluation.sample_quality(samples, data, train)
    assert found == {"valid": 6 / 8, "unique": 4 / 6, "novel": 2 / 4, "ring_distance": 0}


def test_no_valid_molecule_is_neither_different_nor_new():
    data = of_molecules("CC")
    found = evaluation.sample_quality(torch.zeros(3, 189), data, data)
    assert found == {"valid": 0, "unique": 0, "novel": 0, "ring_distance": 0}


def test_numbers_of_rings_are_compared_as_distributions():
    data, made = of_molecules("CC", "C1CC1"), of_molecules("C1CC1", "C1CC1", "C12CC1C2", "CCO").items
    # rings 0 1 against 1 1 2 0: the shares below 1, 2 and 3 are 1/2, 1, 1 and 1/4, 3/4, 1
    assert evaluation.sample_quality(made, data, data)["ring_distance"] == pytest.approx(1 / 4 + 1 / 4)


def chain(*lengths):
    """A straight trace with these bonds, centred."""
    along = torch.tensor([0.0, *lengths]).cumsum(0)
    return torch.stack([along - along.mean(), torch.zeros(len(along)), torch.zeros(len(along))], 1)


def test_proteins_bonds_are_compared_one_by_one_and_frames_with_the_nearest():
    train = dataset(proteins.DOMAIN, torch.stack([chain(1, 2), chain(3, 2), chain(20, 20)]), "train", unit=2.0)
    data = dataset(proteins.DOMAIN, chain(9, 9)[None], unit=2.0)
    samples = torch.stack([chain(8, 5), chain(3, 2)])
    found = evaluation.sample_quality(samples, data, train)
    assert found.keys() == {"bond_error", "bond_violations", "clashes", "nearest_rmsd"}
    assert found["bond_violations"] == found["clashes"] == 0
    # the training bonds have the means 8 and 8 (in units of 2 Å)
    assert found["bond_error"] == pytest.approx(2 * (0 + 3 + 5 + 6) / 4)
    # the first is nearest to the second frame, whose atoms are 13/3, 2/3 and 11/3 away; the other is that frame
    nearest = math.sqrt(((13 / 3) ** 2 + (2 / 3) ** 2 + (11 / 3) ** 2) / 3)
    assert found["nearest_rmsd"] == pytest.approx(2 * (nearest + 0) / 2, abs=1e-5)


def test_bonds_out_of_range_and_atoms_that_clash():
    train = dataset(proteins.DOMAIN, torch.stack([chain(1, 2, 2, 2), chain(3, 2, 2, 4)]), "train", unit=2.0)
    corners = torch.tensor([[0.0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0], [0, 2.0, 4]])
    corners[3, 1] = 1.4  # 1.4 units from the first atom, three bonds on: 2.8 Å
    samples = torch.stack([chain(0.96, 2, 2, 4.1), chain(3.04, 2.06, 1.9, 3), corners - corners.mean(0)])
    found = evaluation.sample_quality(samples, train, train)
    # in Å the ranges are [2, 6], 4, 4, [4, 8], each .1 wider on both sides
    first, second, third = 1, 2, 1  # 8.2; 4.12 and 3.8; of the third's 4, 4, 4.18, 8.09 one
    assert found["bond_violations"] == pytest.approx((first + second + third) / 12)
    assert found["clashes"] == pytest.approx(1 / 3)


def graph(*edges):
    item = torch.zeros(32, 32)
    for i, j in edges:
        item[i, j] = item[j, i] = 1
    return item


def path(nodes, first=0):
    return pairwise(range(first, first + nodes))


def test_graphs_are_compared_by_all_their_nodes():
    data = dataset(graphs.DOMAIN, torch.stack([graph((0, 1), (0, 2), (1, 2))] * 2))  # triangles: degree 2, clustering 1
    samples = torch.stack([graph(*path(3)), graph((0, 1), (2, 3)), torch.zeros(32, 32), graph((0, 1), (0, 2), (1, 2))])
    found = evaluation.sample_quality(samples, data, data)
    # degrees of the made nodes: 1 2 1, 1 1 1 1, none, 2 2 2; every 1 is at distance 1 from 2
    assert found["degree_distance"] == pytest.approx(6 / 10)
    assert found["clustering_distance"] == pytest.approx(7 / 10)
    assert found["connected"] == 2 / 4
    assert found.keys() == {"degree_distance", "clustering_distance", "connected"}


def test_probabilities_of_edges_are_rounded_at_a_half():
    data = dataset(graphs.DOMAIN, graph(*path(4))[None])
    perfect = {"connected": 1, "degree_distance": 0, "clustering_distance": 0}
    assert evaluation.sample_quality(0.6 * data.items, data, data) == perfect
    assert evaluation.sample_quality(0.5 * data.items, data, data)["connected"] == 0
    assert evaluation.sample_quality(1.2 * data.items.triu() + 0.9 * torch.eye(32), data, data) == perfect  # of no symmetry


def test_points_are_off_the_manifold_by_their_mean_distance():
    data = circle([[1.0, 0]])
    samples = torch.tensor([[3.0, 0], [0, 0.5], [1, 0]])
    assert evaluation.sample_quality(samples, data, data) == {"off_manifold": pytest.approx((2 + 0.5 + 0) / 3)}


def test_domains_without_such_metrics_have_none(digits):
    masks = load("masks-28", "test", limit=3)
    assert evaluation.sample_quality(masks.items, masks, masks) == {}
    assert evaluation.sample_quality(digits[1].items, digits[1], digits[0]) == {}
