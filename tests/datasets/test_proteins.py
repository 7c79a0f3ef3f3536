from __future__ import annotations

import hashlib
import itertools
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from topo_utils import paths
from topo_utils.datasets import REGISTRY, DataError, Dataset, load, proteins
from topo_utils.datasets.proteins import DOMAIN, blocks, mean_structure, models, structures, superpose

SPLITS = ("train", "validation", "test")
ENSEMBLES = {  # residues and conformations of each split
    "adk": (214, [98, 100, 102]),
    "hivpr": (198, [75, 16, 16]),
    "bpti": (58, [63, 14, 13]),
    "rhodopsin": (345, [29, 6, 6]),
    "nmr-1gya": (105, [13, 2, 3]),
    "nmr-1l2y": (20, [27, 5, 6]),
    "neopetrosiamide": (27, [17, 3, 4]),
    "transducin": (305, [38, 7, 8]),
    "kinesin": (235, [11, 2, 2]),
}
BREAKS = {"hivpr": 1, "rhodopsin": 2, "neopetrosiamide": 1, "transducin": 3, "kinesin": 11}  # of the chain


@pytest.fixture(scope="module")
def adk():
    """All splits of adenylate kinase, read from the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TOPO_DATA", raising=False)
        return {split: load("adk", split) for split in SPLITS}


def walks(count, residues=12, noise=0.3, seed=0):
    """Noisy copies of one random chain, each turned and shifted at random; Å."""
    stream = np.random.default_rng(seed)
    chain = np.cumsum(3.8 / np.sqrt(3) * stream.standard_normal((residues, 3)), axis=0)
    copies = chain + noise * stream.standard_normal((count, residues, 3))
    turned = np.stack([Rotation.random(rng=stream).apply(one) for one in copies])
    return turned + 10 * stream.standard_normal((count, 1, 3))


def spacing(data):
    """Distances of consecutive C-alpha atoms, Å."""
    return data.items.diff(dim=1).norm(dim=-1) * data.unit


def test_adk_is_three_trajectories(adk):
    for split, trajectory, frames in zip(SPLITS, (0, 2, 1), ENSEMBLES["adk"][1], strict=True):
        data = adk[split]
        assert data.items.shape == (frames, 214, 3)
        assert data.labels.unique().tolist() == [trajectory]
        assert data.properties["frame"].tolist() == list(range(frames))
        assert spacing(data).mean().item() == pytest.approx(3.83, abs=0.02)
    assert "judge" not in REGISTRY["adk"].splits


def test_the_unit_is_the_size_of_the_training_conformations(adk):
    assert adk["train"].items.square().sum(-1).mean().sqrt().item() == pytest.approx(1, abs=1e-5)
    assert {data.unit for data in adk.values()} == {adk["train"].unit}
    assert 16 < adk["train"].unit < 20  # the radius of gyration goes from 16.4 Å closed to 19.4 Å open


def test_items_are_centred_and_superposed(adk):
    assert max(data.items.mean(1).abs().max() for data in adk.values()) < 1e-6
    mean = adk["train"].items.mean(0).double().numpy()
    for data in adk.values():
        for item in data.items[::20].double().numpy():
            rotation, _ = Rotation.align_vectors(mean, item)
            assert rotation.magnitude() < 1e-4


def test_loading_again_gives_the_same(adk):
    assert load("adk", "validation").digest == adk["validation"].digest


def test_no_conformation_is_in_two_splits(adk):
    seen = [{item.numpy().tobytes() for item in data.items} for data in adk.values()]
    assert not any(one & other for one, other in itertools.combinations(seen, 2))


def test_reading_the_package_warns_of_nothing():
    proteins._adk_of_package.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load("adk", "test")
    assert not [warning for warning in caught if "MDAnalysis" in warning.filename]


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_superposition_undoes_any_motion(seed):
    (conformation,) = walks(1, seed=seed)
    (reference,) = walks(1, seed=seed + 1)
    reference -= reference.mean(0)
    stream = np.random.default_rng(seed)
    moved = Rotation.random(rng=stream).apply(conformation) + stream.standard_normal(3)
    one, other = superpose(np.stack([conformation, moved]), reference)
    assert one == pytest.approx(other, abs=1e-6)
    for rotation in Rotation.random(20, rng=stream):
        assert np.linalg.norm(one - reference) <= np.linalg.norm(rotation.apply(one) - reference) + 1e-9


def test_a_mirror_image_is_not_turned_into_its_original():
    (conformation,) = walks(1)
    conformation -= conformation.mean(0)
    (mirrored,) = superpose(conformation[None] * [1, 1, -1], conformation)
    assert np.linalg.norm(mirrored - conformation) > 1


def test_the_mean_stays_where_it_is():
    conformations = walks(20)
    mean = mean_structure(conformations)
    assert superpose(conformations, mean).mean(0) == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize("frames", [51, 100, 117])
def test_frames_near_a_cut_belong_to_no_split(frames):
    rows = blocks(np.zeros((frames, 3, 3)), np.zeros(frames))
    train, validation, test = (rows[split] for split in SPLITS)
    assert np.concatenate([train, validation, test]).tolist() == sorted({*train, *validation, *test})
    assert (train[0], test[-1]) == (0, frames - 1)
    assert validation[0] - train[-1] == test[0] - validation[-1] == 6  # five frames in between
    assert len(train) / (frames - 10) == pytest.approx(0.7, abs=0.02)


def test_every_model_is_in_one_split():
    rows = models(np.zeros((24, 3, 3)), np.zeros(24))
    assert sorted(np.concatenate(list(rows.values()))) == list(range(24))
    assert [len(rows[split]) for split in SPLITS] == [17, 3, 4]


def test_near_copies_are_not_parted():
    original = np.array([*range(12), *range(6), *range(3)])  # three copies of some, two of others
    stream = np.random.default_rng(0)
    copies = walks(12, noise=3)[original] + 0.1 * stream.standard_normal((21, 12, 3))
    rows = structures(np.stack([Rotation.random(rng=stream).apply(copy) for copy in copies]), np.zeros(21))
    assert sorted(np.concatenate(list(rows.values()))) == list(range(21))
    assert all(len(part) for part in rows.values())
    for one, other in itertools.combinations(rows.values(), 2):
        assert not set(original[one]) & set(original[other])


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A file of made conformations under the names of the real ones, in TOPO_DATA."""
    file = tmp_path / "shared" / "proteins" / "protein_ca_ensembles.npz"
    file.parent.mkdir(parents=True)
    keys = [key for source in proteins.SOURCES for key in source.keys]
    np.savez(file, **{key: walks(60, noise=1, seed=seed).astype(np.float32) for seed, key in enumerate(keys)})
    monkeypatch.setattr(proteins.Ensemble, "md5", hashlib.md5(file.read_bytes()).hexdigest())
    monkeypatch.setenv("TOPO_DATA", str(file.parents[1]))
    return file


def test_every_ensemble_is_read_from_the_file(archive):
    for name in ENSEMBLES:
        assert REGISTRY[name].present()
        sizes = []
        for split in SPLITS:
            data = load(name, split)
            assert data.shape == (12, 3)
            sizes.append(len(data))
        assert sum(sizes) == {"adk": 180}.get(name, 50 if name in ("hivpr", "bpti", "rhodopsin") else 60)


def test_a_damaged_file_is_named_and_not_passed_over(archive):
    archive.write_bytes(archive.read_bytes()[:1000])
    for name in ("adk", "bpti"):  # the package would have the first
        with pytest.raises(DataError, match=r"protein_ca_ensembles.npz is damaged: 1000 bytes"):
            load(name, "train")


def test_a_missing_ensemble_says_where_it_was_looked_for():
    for name in set(ENSEMBLES) - {"adk"}:
        assert not REGISTRY[name].present()
        with pytest.raises(
            DataError, match=rf"'{name}' is not in .*proteins/protein_ca_ensembles.npz in TOPO_DATA"
        ) as caught:
            load(name, "train")
        assert str(paths.raw() / "proteins") in str(caught.value)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (torch.zeros(2, 30), r"wanted traces of shape \(n, residues, 3\).*got \(2, 30\)"),
        (torch.zeros(2, 30, 2), "wanted traces"),
        (torch.ones(2, 30, 3), r"wanted centred traces, got a mean of \[1.0, 1.0, 1.0\] in item 0"),
    ],
)
def test_what_is_wrong_with_items_is_said(items, message):
    with pytest.raises(DataError, match=message):
        Dataset("made", "train", DOMAIN, items, torch.zeros(2, dtype=torch.int64))


def test_a_closed_trace_has_one_loop():
    angle = torch.arange(24) * 2 * torch.pi / 24
    ring = torch.stack([angle.cos(), angle.sin(), torch.zeros(24)], dim=1)
    connected, loops = DOMAIN.diagrams(torch.stack([ring, ring]))
    lengths = (loops.points[..., 1] - loops.points[..., 0])[loops.mask]
    assert (lengths > 1).sum() == 2
    assert connected.mask.sum(1).tolist() == [23, 23]
    with pytest.raises(NotImplementedError, match="proteins"):
        DOMAIN.betti(ring[None])


def test_a_drawn_trace_is_not_joined_over_a_break():
    trace = torch.stack([torch.arange(10.0), torch.zeros(10), torch.arange(10) % 2 * 0.3], dim=1)
    trace[6:, 0] += 4
    figure, (one, other) = plt.subplots(1, 2)
    DOMAIN.draw(one, trace)
    DOMAIN.draw(other, trace.requires_grad_())  # as models give it
    (lines,) = one.collections
    assert len(lines.get_segments()) == 8
    widths = [np.ptp(np.concatenate(lines.get_segments())[:, axis]) for axis in (0, 1)]
    assert widths[0] == pytest.approx(13, abs=0.1)  # along the axis in which it is widest
    assert not len(one.get_xticks())
    plt.close(figure)


@pytest.mark.parametrize("name", ENSEMBLES)
def test_facts_of_the_ensembles(shared_data, name):
    residues, sizes = ENSEMBLES[name]
    splits = [load(name, split) for split in SPLITS]
    assert [tuple(data.items.shape) for data in splits] == [(size, residues, 3) for size in sizes]
    for data in splits:
        assert spacing(data).median().item() == pytest.approx(3.83, abs=0.06)
        assert abs((spacing(data).mean(0) > 5).sum() - BREAKS.get(name, 0)) <= (name == "kinesin")
    if name != "kinesin":  # 235 aligned columns with many gaps in between
        assert spacing(splits[0]).mean().item() == pytest.approx(3.83, abs=0.06)
    seen = [{item.numpy().tobytes() for item in data.items} for data in splits]
    assert not any(one & other for one, other in itertools.combinations(seen, 2))


def test_the_file_and_the_package_hold_the_same_adk(adk, shared_data):
    for split in SPLITS:
        assert torch.equal(load("adk", split).items, adk[split].items)


def test_crystal_structures_of_two_splits_differ(shared_data):
    splits = [load("transducin", split) for split in SPLITS]
    for one, other in itertools.combinations(splits, 2):
        distances = torch.cdist(one.items.flatten(1), other.items.flatten(1)) * one.unit / 305**0.5
        assert distances.min() > 0.5
