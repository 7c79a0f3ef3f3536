from __future__ import annotations

import csv
import hashlib
import itertools
from importlib.metadata import PackageNotFoundError

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem import rdDistGeom
from rdkit.Chem.rdMolDescriptors import CalcNumRings

from topo_utils import paths
from topo_utils.datasets import DataError, Dataset, _qm9, load, molecules
from topo_utils.datasets.__main__ import main
from topo_utils.datasets._files import verified
from topo_utils.datasets.molecules import (
    DOMAIN,
    coordinate_clouds,
    from_smiles,
    is_valid,
    to_mol,
    to_smiles,
    valid_decode,
)
from topo_utils.topology import pairwise_distances, persistent_homology, rips

SIZES = {
    "nci": {"train": 253, "validation": 42, "test": 63, "judge": 63},
    "g2": {"train": 48, "validation": 7, "test": 14},
}


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """All splits of the data sets that packages ship."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOPO_HOME", str(tmp_path_factory.mktemp("molecules")))
        return {name: {split: load(name, split) for split in sizes} for name, sizes in SIZES.items()}


@pytest.fixture(scope="module")
def known(embedded):
    """Every embedded molecule's item."""
    return torch.cat([data.items for splits in embedded.values() for data in splits.values()])


def probabilities(seed, sharpness=3.0):
    """Random probabilities of atoms and bonds, most pairs not bonded."""
    scores = sharpness * torch.randn(189, generator=torch.Generator().manual_seed(seed))
    bonds = DOMAIN.bonds(scores) + torch.tensor([1.0, 0, 0, 0])
    return torch.cat([DOMAIN.atoms(scores).softmax(-1).flatten(), bonds.softmax(-1).flatten()])


def test_embedded_molecules_are_all_there(embedded):
    for name, sizes in SIZES.items():
        assert {split: len(data) for split, data in embedded[name].items()} == sizes
        data = embedded[name]["train"]
        assert data.shape == (189,)
        assert data.domain.filtration == "graph"
        assert data.properties["coordinates"].shape == (len(data), 9, 3)
        assert torch.equal(data.properties["atoms_count"], (data.domain.atoms(data.items)[..., 0] == 0).sum(1))
    species = {to_smiles(item) for data in embedded["g2"].values() for item in data.items}
    assert {"O", "C", "c1ccccc1", "C[N+](=O)[O-]", "C1CC12CC2"} <= species
    assert len(species) == 69  # no free atom or radical poses as its hydride


def test_no_molecule_is_in_two_splits(embedded):
    for splits in embedded.values():
        for one, other in itertools.combinations(splits.values(), 2):
            assert not {item.numpy().tobytes() for item in one.items} & {item.numpy().tobytes() for item in other.items}


def test_loading_again_gives_the_same(embedded):
    made, read = load("g2", "train"), load("g2", "train")
    assert torch.equal(made.items, read.items)
    assert made.digest == read.digest == embedded["g2"]["train"].digest


def test_every_molecule_comes_back_from_its_smiles(known):
    for item in known:
        assert torch.equal(from_smiles(to_smiles(item)), item)


@given(st.integers(0, 489), st.integers(0, 2**31 - 1))
@settings(max_examples=60, deadline=None)
def test_the_item_does_not_depend_on_how_the_smiles_is_written(known, row, seed):
    molecule = Chem.MolFromSmiles(to_smiles(known[row]))
    order = np.random.default_rng(seed).permutation(molecule.GetNumAtoms()).tolist()
    shuffled = Chem.MolToSmiles(Chem.RenumberAtoms(molecule, order), canonical=False)
    assert torch.equal(from_smiles(shuffled), known[row])


def test_an_item_written_out():
    item = from_smiles("O=CF")
    atoms, bonds = DOMAIN.atoms(item), DOMAIN.bonds(item)
    assert to_smiles(item) == "O=CF"
    assert atoms.argmax(1).tolist() == [3, 1, 4, 0, 0, 0, 0, 0, 0]
    assert bonds.argmax(1).tolist() == [2, 0, 0, 0, 0, 0, 0, 0, 1] + 27 * [0]
    assert item.sum() == 45


@pytest.mark.parametrize(
    "smiles", ["C[N+](=O)[O-]", "CN=[N+]=[N-]", "C=[N+]=[N-]", "[O-][n+]1ccccc1", "c1cc[nH]c1", "C1CC1", "N#CC#N"]
)
def test_charges_of_neighbours_and_aromatic_rings_come_back(smiles):
    assert Chem.CanonSmiles(to_smiles(from_smiles(smiles))) == Chem.CanonSmiles(smiles)


def test_stereochemistry_is_dropped():
    assert torch.equal(from_smiles("C/C=C/C"), from_smiles("CC=CC"))


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        ("C(", r"got 'C\(', which RDKit cannot read"),
        ("", "wanted 1 to 9 heavy atoms, got 0"),
        ("CCCCCCCCCC", "wanted 1 to 9 heavy atoms, got 10, in 'CCCCCCCCCC'"),
        ("CCl", "wanted the elements C, N, O and F alone, got Cl"),
        ("[H][H]", "alone, got H"),
        ("C.C", "got 2 fragments"),
        ("[NH3+]CC([O-])=O", "no charges"),
        ("[CH3]", "radicals"),
        ("[13CH4]", "isotopes"),
        ("O=[O+][O-]", "whose graph is that of None"),
    ],
)
def test_what_no_item_can_hold_is_named(smiles, message):
    with pytest.raises(ValueError, match="smiles: .*" + message):
        from_smiles(smiles)


def test_decoding_repairs_nothing():
    five = from_smiles("CC(C)(C)C")  # the central atom gets a double bond
    pair = int(DOMAIN.bonds(five)[:, 1].nonzero()[0])
    DOMAIN.bonds(five)[pair] = torch.tensor([0.0, 0, 1, 0])
    apart = from_smiles("CC")
    DOMAIN.bonds(apart)[0] = torch.tensor([1.0, 0, 0, 0])
    nothing = torch.cat([torch.eye(5)[0].repeat(9), torch.eye(4)[0].repeat(36)])
    for item, atoms in ((five, 5), (apart, 2), (nothing, 0)):
        assert to_mol(item).GetNumAtoms() == atoms
        assert not is_valid(to_mol(item))
        assert to_smiles(item) is None


def test_probabilities_decode_to_the_most_probable(known):
    generator = torch.Generator().manual_seed(0)
    for item in known[:20]:
        noisy = item + 0.4 * torch.rand(189, generator=generator)
        assert to_smiles(noisy) == to_smiles(item)


@given(st.integers(0, 10**6), st.sampled_from([0.1, 1.0, 3.0, 10.0]))
@settings(max_examples=50, deadline=None)
def test_a_repaired_molecule_is_valid(seed, sharpness):
    given_probabilities = probabilities(seed, sharpness)
    item = valid_decode(given_probabilities)
    assert is_valid(to_mol(item))
    assert DOMAIN.check(item[None]) is None
    assert torch.equal(valid_decode(item), item)
    assert torch.equal(valid_decode(given_probabilities), item)


def test_repair_changes_no_valid_molecule(known):
    neutral = [item for item in known if "+" not in to_smiles(item)]
    assert len(neutral) > 450
    for item in neutral:
        assert torch.equal(valid_decode(item), item)
        assert torch.equal(valid_decode(0.4 * item + 0.1), item)  # argmax is the same


def test_repair_of_no_atoms_and_of_saturated_fragments():
    nothing = torch.cat([torch.eye(5)[0].repeat(9), torch.eye(4)[0].repeat(36)])
    nothing[8] = 0.3  # nitrogen would be next, in slot 1: 5 + 2 = 7
    nothing[7] = 0.4
    assert to_smiles(valid_decode(nothing)) == "N"
    apart = from_smiles("FC(F)F")
    for pair in DOMAIN.bonds(apart):
        pair.copy_(torch.tensor([0.9, 0.1, 0, 0]))
    assert to_smiles(valid_decode(apart)) == "FC(F)F"  # single bonds join what has valences free


def test_labels_are_numbers_of_rings(embedded):
    for splits in embedded.values():
        for data in splits.values():
            rings = [CalcNumRings(Chem.MolFromSmiles(to_smiles(item))) for item in data.items]
            assert data.labels.tolist() == rings


def test_betti_numbers_are_those_of_the_graph():
    items = torch.stack([probabilities(seed) for seed in range(200)])
    for item, betti in zip(items, DOMAIN.betti(items), strict=True):
        graph = nx.Graph()
        graph.add_nodes_from(slot for slot, kind in enumerate(DOMAIN.atoms(item).argmax(1).tolist()) if kind)
        bonds = zip(itertools.combinations(range(9), 2), DOMAIN.bonds(item).argmax(1).tolist(), strict=True)
        graph.add_edges_from((i, j) for (i, j), order in bonds if order and i in graph and j in graph)
        fragments = nx.number_connected_components(graph)
        assert betti.tolist() == [fragments, graph.number_of_edges() - graph.number_of_nodes() + fragments]


def test_clouds_are_weights_of_bonds():
    item = from_smiles("C=CO")
    weights = DOMAIN.cloud(item[None])[0]
    assert torch.equal(weights, weights.T)
    assert weights.diagonal().tolist() == [0] * 9
    assert [weights[0, 1], weights[1, 2], weights[0, 2], weights[0, 5]] == [1, 1, 2, 2]
    soft = torch.stack([probabilities(seed) for seed in range(5)]).requires_grad_()
    weights = DOMAIN.cloud(soft)
    off = weights[:, ~torch.eye(9, dtype=torch.bool)]
    assert ((off >= 1) & (off <= 2)).all()
    weights.sum().backward()
    assert soft.grad.isfinite().all()
    assert (soft.grad != 0).any()


def test_rings_are_bars():
    items = torch.stack([from_smiles(smiles) for smiles in ("C1CCC1", "c1ccccc1", "C1CC1", "CCC", "C1CCC2CCCC12")])
    connected, loops = DOMAIN.diagrams(items)
    assert loops.mask.sum(1).tolist() == [1, 1, 0, 0, 2]  # the clique complex fills a ring of three
    assert loops.points[loops.mask].tolist() == [[1, 2]] * 4
    assert connected.mask.sum(1).tolist() == [9] * 5


def test_clouds_of_coordinates_do_not_see_the_padding(embedded):
    data = embedded["g2"]["test"]
    clouds = coordinate_clouds(data)
    diagrams = persistent_homology(rips(pairwise_distances(clouds)))
    for row, count in enumerate(data.properties["atoms_count"].tolist()):
        alone = data.properties["coordinates"][row, :count]
        if count > 1:
            for padded, plain in zip(diagrams, persistent_homology(rips(pairwise_distances(alone[None]))), strict=True):
                bars = padded.points[row][padded.mask[row]]
                assert torch.allclose(bars, plain.points[0][plain.mask[0]], atol=1e-5)


def test_coordinates_stand_in_the_slots_of_their_atoms(embedded):
    for splits in embedded.values():
        data = splits["test"]
        pairs = torch.triu_indices(9, 9, 1)
        coordinates = data.properties["coordinates"]
        lengths = (coordinates[:, pairs[0]] - coordinates[:, pairs[1]]).norm(dim=-1)
        bonded = data.domain.bonds(data.items)[..., 0] == 0
        both = (data.domain.atoms(data.items)[..., 0] == 0)[:, pairs].all(1)
        assert lengths[bonded].min() > 1.05
        assert lengths[bonded].max() < 1.65
        assert lengths[both & ~bonded].min() > 1.9
        assert (coordinates[data.domain.atoms(data.items)[..., 0] == 1] == 0).all()


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (torch.zeros(2, 190), r"wanted molecules of shape \(n, 189\), got \(2, 190\)"),
        (torch.zeros(2, 189), r"wanted one-hot atoms, got others in item 0 \(2 such items\)"),
        (torch.full((1, 189), 0.5), "one-hot atoms"),
        (torch.cat([torch.eye(5)[1].repeat(9), torch.zeros(144)])[None], "one-hot bonds"),
        (torch.cat([torch.eye(5)[0].repeat(9), torch.eye(4)[1].repeat(36)])[None], "got one of an absent atom in item 0"),
    ],
)
def test_what_is_wrong_with_items_is_said(items, message):
    with pytest.raises(DataError, match=message):
        Dataset("made", "train", DOMAIN, items, torch.zeros(len(items), dtype=torch.int64))


def test_any_item_can_be_drawn():
    drawn = [from_smiles("OC1CC1=O"), from_smiles("C"), *map(probabilities, range(6)), torch.zeros(189)]
    figure, axes = plt.subplots(1, len(drawn))
    for ax, item in zip(axes, drawn, strict=True):
        DOMAIN.draw(ax, item)
        assert len(ax.images) == 1
        assert not ax.axison
    plt.close(figure)


def test_a_damaged_cache_is_named_and_made_again(capsys):
    before = load("g2", "train")
    (cache,) = paths.processed().glob("g2-*.safetensors")
    cache.write_bytes(cache.read_bytes()[:-100])
    assert torch.equal(load("g2", "train").items, before.items)
    assert f"'{cache}' is damaged" in capsys.readouterr().err
    assert torch.equal(load("g2", "train").items, before.items)
    assert not capsys.readouterr().err


ACCEPTED = [
    *("C", "N", "O", "C#C", "C#N", "C=O", "CC", "CO", "CC#C", "CC#N", "CC=O", "NC=O", "CCC", "CCO", "C1CC1"),
    *("C1CO1", "CC(C)=O", "c1cc[nH]c1", "FC(F)F", "O=[N+]([O-])c1ccco1"),
]
ZWITTERION = "[NH3+]CC([O-])=O"


def embed(smiles):
    """One row of a file of QM9: elements and positions of all atoms."""
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(molecule, randomSeed=1) == 0
    positions = molecule.GetConformer().GetPositions().round(6)
    return [atom.GetSymbol() for atom in molecule.GetAtoms()], positions


@pytest.fixture(scope="module")
def rows():
    """A few molecules in the form of QM9, numbered from 1; the last but one is charged, the last one's bond is broken."""
    found = [(smiles, *embed(smiles)) for smiles in (*ACCEPTED, ZWITTERION, "CCCC")]
    found[-1][2][0] += 5
    return found


def values(number):
    return np.arange(15) + number / 7


@pytest.fixture
def archive(rows, tmp_path, monkeypatch):
    """These molecules as the file that a folder of data holds; returns the file."""
    number_of = Chem.GetPeriodicTable().GetAtomicNumber
    file = tmp_path / "shared" / "qm9" / "qm9_full.npz"
    file.parent.mkdir(parents=True)
    numbers = np.arange(1, len(rows) + 1, dtype=np.int32)
    np.savez(
        file,
        index=numbers,
        n_atoms=np.array([len(symbols) for _, symbols, _ in rows], np.uint8),
        Z=np.array([number_of(symbol) for _, symbols, _ in rows for symbol in symbols], np.uint8),
        pos=np.concatenate([positions for *_, positions in rows]).astype(np.float32),
        smiles=np.frombuffer("\n".join(smiles for smiles, *_ in rows).encode(), np.uint8),
        props=np.stack([values(number) for number in numbers]),
    )
    monkeypatch.setattr(molecules.Qm9, "md5", hashlib.md5(file.read_bytes()).hexdigest())
    return file


@pytest.fixture
def no_package(monkeypatch):
    """Whether or not the package qm9pack is installed here, it is not found."""

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(_qm9, "distribution", missing)


@pytest.fixture
def package(rows, tmp_path, monkeypatch):
    """These molecules as the package qm9pack, installed; it cannot be imported, as the real one where setuptools is new."""
    data = tmp_path / "site" / "qm9pack" / "data"
    data.mkdir(parents=True)
    (data.parent / "__init__.py").write_text("raise ImportError('no module named pkg_resources')")
    metadata = tmp_path / "site" / "qm9pack-1.0.3.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: qm9pack\nVersion: 1.0.3\n")
    header = ["XYZ_file", "Index", "SMILES", "Elements", "XYZ_Ang", *(f"property {column}" for column in range(15))]
    numbered = list(enumerate(rows, start=1))
    checksums = {}
    for part, chosen in enumerate((numbered[10:], numbered[:5], numbered[5:10]), start=1):  # the parts are in no order
        file = data / f"qm9_part{part}.csv"
        with file.open("w", newline="") as lines:
            table = csv.writer(lines)
            table.writerow(header)
            for number, (smiles, symbols, positions) in chosen:
                elements = "[" + ",".join(f"'{symbol}'" for symbol in symbols) + "]"
                table.writerow(["", number, smiles, elements, str(positions.tolist()), *values(number)])
        checksums[file.name] = hashlib.md5(file.read_bytes()).hexdigest()
    monkeypatch.setattr(molecules.Qm9, "parts", checksums)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return data


def all_splits():
    return {split: load("qm9", split) for split in ("train", "validation", "test", "judge")}


def check_rows(splits):
    numbers = torch.cat([data.properties["number"] for data in splits.values()])
    assert sorted(numbers.tolist()) == list(range(1, len(ACCEPTED) + 1))  # neither the charged nor the broken one
    for data in splits.values():
        for item, number, targets in zip(data.items, data.properties["number"], data.properties["targets"], strict=True):
            assert to_smiles(item) == Chem.CanonSmiles(ACCEPTED[number - 1])
            assert targets.numpy() == pytest.approx(values(int(number)))
    assert len(molecules.Qm9.targets) == 15


def test_qm9_is_read_from_a_folder(archive, no_package, monkeypatch):
    monkeypatch.setenv("TOPO_DATA", str(archive.parents[1]))
    splits = all_splits()
    check_rows(splits)
    assert {split: len(data) for split, data in splits.items()} == {"train": 16, "validation": 1, "test": 2, "judge": 1}


def test_qm9_is_read_from_the_package_and_is_the_same(package, archive, monkeypatch, capsys):
    monkeypatch.setattr(molecules.Qm9, "present", lambda self, root=None: True)
    assert main(["fetch", "qm9"]) == 0
    assert "converting QM9" in capsys.readouterr().out
    packaged = all_splits()
    check_rows(packaged)
    assert "converting" not in capsys.readouterr().out
    for cache in paths.processed().iterdir():
        cache.unlink()
    monkeypatch.setenv("TOPO_DATA", str(archive.parents[1]))
    for split, data in all_splits().items():
        assert torch.equal(data.items, packaged[split].items)
        assert data.properties.keys() == packaged[split].properties.keys()
        for name, tensor in data.properties.items():
            assert torch.equal(tensor, packaged[split].properties[name])


def test_a_missing_qm9_says_how_to_get_it(no_package, capsys):
    with pytest.raises(DataError, match=r"pip install '\.\[qm9\]'.*fetch qm9") as caught:
        load("qm9", "train")
    assert str(paths.raw() / "qm9") in str(caught.value)
    assert main(["fetch", "qm9"]) == 1
    assert "pip install '.[qm9]'" in capsys.readouterr().err


def test_a_damaged_file_of_qm9_is_named_even_where_there_is_a_cache(archive, no_package, monkeypatch):
    monkeypatch.setenv("TOPO_DATA", str(archive.parents[1]))
    load("qm9", "test")
    archive.write_bytes(archive.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"qm9_full.npz is damaged: 1000 bytes"):
        load("qm9", "test")


def test_a_damaged_part_of_the_package_is_named(package):
    (package / "qm9_part2.csv").write_text("XYZ_file,Index\n")
    with pytest.raises(DataError, match=r"qm9_part2.csv is damaged.*--force-reinstall"):
        load("qm9", "train")


def test_facts_of_qm9(shared_data, tmp_path, monkeypatch):
    """Of the whole file, every hundredth molecule and all that are special are converted; the whole takes a minute."""
    file = verified(shared_data / "qm9" / "qm9_full.npz", molecules.Qm9.md5, "")
    arrays = dict(np.load(file, allow_pickle=False))
    smiles = np.array(arrays["smiles"].tobytes().decode().split("\n"))
    assert len(smiles) == 130_831
    charged, broken = np.array(["+" in text for text in smiles]), ~arrays["bonds_ok"]
    nitro = np.array(["N(=O)=O" in text or "O=N(=O)" in text for text in smiles]) & ~charged
    assert (charged.sum(), broken.sum(), nitro.sum()) == (443, 8, 137)
    heavy = np.add.reduceat(arrays["Z"] > 1, np.r_[0, arrays["n_atoms"].cumsum(dtype=int)[:-1]])
    assert set(arrays["Z"]) == {1, 6, 7, 8, 9}
    assert heavy.max() == 9
    assert heavy.mean() == pytest.approx(8.8, abs=0.05)
    assert arrays["n_atoms"].mean() == pytest.approx(18.0, abs=0.05)

    chosen = (np.arange(len(smiles)) % 100 == 0) | nitro | charged | broken
    of_atom = np.repeat(chosen, arrays["n_atoms"])
    part = tmp_path / "part" / "qm9" / "qm9_full.npz"
    part.parent.mkdir(parents=True)
    rows = {name: arrays[name][chosen] for name in ("index", "n_atoms", "props")}
    text = np.frombuffer("\n".join(smiles[chosen]).encode(), np.uint8)
    np.savez(part, **rows, Z=arrays["Z"][of_atom], pos=arrays["pos"][of_atom], smiles=text)
    monkeypatch.setattr(molecules.Qm9, "md5", hashlib.md5(part.read_bytes()).hexdigest())
    monkeypatch.setenv("TOPO_DATA", str(part.parents[1]))
    splits = all_splits()
    kept = torch.cat([data.properties["number"] for data in splits.values()]).sort().values
    assert kept.tolist() == arrays["index"][chosen & ~charged & ~broken].tolist()

    of_number = dict(zip(arrays["index"].tolist(), smiles, strict=True))
    bonds = np.split(arrays["bonds"], arrays["n_bonds"].cumsum(dtype=int)[:-1])
    for item, number in zip(splits["train"].items[:500], splits["train"].properties["number"].tolist(), strict=False):
        assert to_smiles(item) == Chem.CanonSmiles(of_number[number])
        row = int(np.searchsorted(arrays["index"], number))
        of_heavy = [order for i, j, order in bonds[row].tolist() if max(i, j) < heavy[row]]
        found = DOMAIN.bonds(item).argmax(1)
        assert sorted(found[found > 0].tolist()) == sorted(of_heavy) or nitro[row]  # which is written with one bond more
