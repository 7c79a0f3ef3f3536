"""Conformations of one protein each, as C-alpha traces: ``adk`` (in a package that we depend on) and eight other ensembles.

An item is ``(residues, 3)``. Conformations are centred and superposed by the rotation of least squared distance (Kabsch,
Acta Cryst. A 32, 1976) on the mean of the training conformations, itself found by superposing them on their mean until it
stays where it is. So an item knows nothing of where the molecule was and how it was turned. Coordinates are in units of
``unit`` Å, the root mean square distance of an atom from the centre over the training conformations. The unit and the mean
come from the training split alone. Conformations stand in the order of their frames. Consecutive atoms are 3.8 Å apart
but where the chain has a break: one each in ``hivpr`` (two chains) and ``neopetrosiamide``, 2 in ``rhodopsin``, 3 in
``transducin``, about eleven in ``kinesin``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from warnings import catch_warnings, filterwarnings

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from topo_utils.datasets._dataset import Dataset, Domain, Source
from topo_utils.datasets._files import find, read_npz
from topo_utils.seed import derive

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.axes import Axes

SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}
GAP = 5  # frames left out between the splits of a trajectory
ALIKE = 0.5  # Å; structures closer than this, or linked by such ones, are never parted

Rule = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]
TOLERANCE, CLASH = 0.1, 3.0  # Å


class Proteins(Domain):
    """C-alpha traces of a protein. The filtration of an item is that of its atoms, in units of the data set's ``unit``."""

    name = "proteins"
    label = "trajectory"
    filtration = "rips"

    def check(self, items: Tensor) -> str | None:
        if items.ndim != 3 or items.shape[1] < 3 or items.shape[2] != 3:
            return f"wanted traces of shape (n, residues, 3) with 3 residues or more, got {tuple(items.shape)}"
        off = items.mean(1).abs().amax(1)
        if off.max() > 1e-3:
            worst = int(off.argmax())
            return f"wanted centred traces, got a mean of {items[worst].mean(0).tolist()} in item {worst}"
        return None

    def draw(self, axes: Axes, item: Float[Tensor, "residues 3"]) -> None:
        """Draw the trace, from blue to yellow, in the plane in which it is widest; chain breaks are not joined.

        A break is where two atoms are farther apart than 1.5 times the median of neighbours.
        """
        from matplotlib.collections import LineCollection  # here: loading data needs no drawing library

        points = item.detach().cpu().double().numpy()
        points = points - points.mean(0)
        _, _, directions = np.linalg.svd(points, full_matrices=False)
        largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], 1)
        plane = points @ (directions * np.sign(largest))[:2].T  # the sign is arbitrary: similar traces look similar
        lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
        joined = lengths <= 1.5 * np.median(lengths)
        lines = LineCollection(
            np.stack([plane[:-1], plane[1:]], 1)[joined], cmap="viridis", linewidths=1.5, capstyle="round"
        )
        lines.set_array(np.arange(len(lengths))[joined])
        axes.add_collection(lines)
        axes.autoscale_view()
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(xticks=[], yticks=[])

    def quality(self, samples: Float[Tensor, "m residues 3"], data: Dataset, train: Dataset) -> dict[str, float]:
        """In Å, ``bond_error``: of neighbours along the chain, from the mean length of each in the training frames;
        ``nearest_rmsd``: to the nearest training frame. And ``bond_violations``: share of these lengths that are more than
        0.1 Å outside of their range in the training frames; ``clashes``: pairs of Cα that are nearer than 3 Å and at least
        three apart along the chain, the mean over the samples.
        """

        def bonds(traces: Tensor) -> Tensor:
            return traces.diff(dim=1).norm(dim=2) * train.unit

        made, known = bonds(samples), bonds(train.items)
        error = (made - known.mean(0)).abs().mean()
        outside = (made < known.amin(0) - TOLERANCE) | (made > known.amax(0) + TOLERANCE)
        apart = torch.ones(samples.shape[1], samples.shape[1], dtype=torch.bool).triu(3)
        near = sum(int((torch.cdist(trace, trace)[apart] * train.unit < CLASH).sum()) for trace in samples)
        nearest = torch.cdist(samples.flatten(1), train.items.flatten(1)).amin(1).mean()
        return {
            "bond_error": error.item(),
            "bond_violations": outside.float().mean().item(),
            "clashes": near / len(samples),
            "nearest_rmsd": nearest.item() / samples.shape[1] ** 0.5 * train.unit,
        }


DOMAIN = Proteins()


class Ensemble(Source):
    """Conformations of one protein, from the file ``protein_ca_ensembles.npz``.

    Labels are the numbers of the trajectories, all 0 where there is only one. The property ``frame`` (n,) is the place of a
    conformation in its trajectory.

    Parameters
    ----------
    name, summary, licence
        As every source has them.
    keys
        Arrays of the file, one a trajectory, or one set of models or structures.
    rule
        Says which rows belong to which split, given all conformations ``(n, residues, 3)`` and their trajectories ``(n,)``.
    """

    domain = DOMAIN
    splits = ("train", "validation", "test")
    file = "protein_ca_ensembles.npz"
    md5 = "540cc21bd7cff9b8e9b6532f27722205"

    def __init__(self, name: str, keys: tuple[str, ...], rule: Rule, summary: str, licence: str):
        self.name, self.keys, self.rule, self.summary, self.licence = name, keys, rule, summary, licence

    def present(self, root: Path | None = None) -> bool:
        return find("proteins", [self.file], root) is not None

    def load(self, split: str, root: Path | None = None) -> Dataset:
        trajectories = self.trajectories(root)
        conformations = np.concatenate(trajectories).astype(np.float64)
        trajectory = np.repeat(np.arange(len(trajectories)), [len(frames) for frames in trajectories])
        frame = np.concatenate([np.arange(len(frames)) for frames in trajectories])
        rows = self.rule(conformations, trajectory)
        mean = mean_structure(conformations[rows["train"]])
        train, chosen = (superpose(conformations[rows[name]], mean) for name in ("train", split))
        unit = float(np.sqrt((train**2).sum(-1).mean()))
        labels, frames = (torch.from_numpy(values[rows[split]]) for values in (trajectory, frame))
        return Dataset(self.name, split, DOMAIN, torch.from_numpy(chosen / unit).float(), labels, {"frame": frames}, unit)

    def trajectories(self, root: Path | None) -> list[Float[np.ndarray, "frames residues 3"]]:
        """Coordinates in Å, not superposed, an array for each key."""
        folder = find("proteins", [self.file], root)
        if folder is None:
            raise self.missing(f"proteins/{self.file}", "No package ships it: see data/README.md", root, "proteins")
        arrays = read_npz(folder / self.file, self.md5, "Replace it by a whole copy")
        return [arrays[key] for key in self.keys]


class Adk(Ensemble):
    """Adenylate kinase between its closed and its open form; the same from the file or from the package MDAnalysisTests.

    Two runs of dynamic importance sampling (Beckstein et al., J. Mol. Biol. 394, 2009; Seyler et al., PLoS Comput. Biol.
    11, 2015) and one of targeted molecular dynamics. A split is a trajectory: the first is for training, the third for
    validation, and the second, of the same method as the first, is the test.
    """

    def present(self, root: Path | None = None) -> bool:
        return True

    def trajectories(self, root: Path | None) -> list[Float[np.ndarray, "frames residues 3"]]:
        return super().trajectories(root) if super().present(root) else _adk_of_package()


def mean_structure(conformations: Float[np.ndarray, "n residues 3"]) -> Float[np.ndarray, "residues 3"]:
    """Mean of the conformations superposed on it: started from the first, until it moves by less than 1e-6 Å."""
    mean = conformations[0] - conformations[0].mean(0)
    for _ in range(100):
        previous, mean = mean, superpose(conformations, mean).mean(0)
        if np.sqrt(((mean - previous) ** 2).sum(-1).mean()) < 1e-6:
            break
    return mean


def superpose(
    conformations: Float[np.ndarray, "n residues 3"], reference: Float[np.ndarray, "residues 3"]
) -> Float[np.ndarray, "n residues 3"]:
    """Each conformation centred and rotated to the least squared distance from a centred reference."""
    centred = conformations - conformations.mean(1, keepdims=True)
    return np.stack([Rotation.align_vectors(reference, one)[0].apply(one) for one in centred])


def whole_trajectories(conformations: np.ndarray, trajectory: np.ndarray) -> dict[str, np.ndarray]:
    """The first trajectory trains, the third validates, the second tests."""
    return {split: np.flatnonzero(trajectory == number) for split, number in (("train", 0), ("validation", 2), ("test", 1))}


def blocks(conformations: np.ndarray, trajectory: np.ndarray) -> dict[str, np.ndarray]:
    """Consecutive blocks of a trajectory, 70 %, 15 % and 15 %; five frames between two of them belong to none."""
    train, validation = (round(SHARES[split] * (len(trajectory) - 2 * GAP)) for split in ("train", "validation"))
    cuts = [train, train + GAP, train + GAP + validation, train + validation + 2 * GAP]
    train, _, validation, _, test = np.split(np.arange(len(trajectory)), cuts)
    return {"train": train, "validation": validation, "test": test}


def models(conformations: np.ndarray, trajectory: np.ndarray) -> dict[str, np.ndarray]:
    """A random 70 %, 15 % and 15 % of models that were made independently of each other."""
    return _shared_out(np.arange(len(conformations)))


def structures(conformations: np.ndarray, trajectory: np.ndarray) -> dict[str, np.ndarray]:
    """About 70 %, 15 % and 15 % of crystal structures. Those that are nearly copies of each other are not parted.

    These are linked by chains of structures with root mean square distances of at most 0.5 Å after superposition.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    centred = conformations - conformations.mean(1, keepdims=True)
    pairs = zip(*np.triu_indices(len(centred), 1), strict=True)
    distances = [Rotation.align_vectors(centred[i], centred[j])[1] for i, j in pairs]
    single = linkage(np.array(distances) / np.sqrt(centred.shape[1]), "single")
    return _shared_out(fcluster(single, ALIKE, "distance"))


def _shared_out(group: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of each split: groups in a fixed random order, each in the split that its middle falls into."""
    groups, sizes = np.unique(group, return_counts=True)
    order = np.random.default_rng(derive(0, "split")).permutation(len(groups))
    middles = sizes[order].cumsum() - sizes[order] / 2
    place = np.searchsorted(np.cumsum(list(SHARES.values()))[:-1], middles / len(group))
    return {split: np.flatnonzero(np.isin(group, groups[order[place == k]])) for k, split in enumerate(SHARES)}


@cache
def _adk_of_package() -> list[np.ndarray]:
    with catch_warnings():
        import MDAnalysis  # here: they take a second to import, and set filters of their own
        from MDAnalysisTests.datafiles import DCD, DCD2, DCD_NAMD_GBIS, PSF, PSF_NAMD_GBIS

        # of a change to come in how frames are stepped through; each is copied here
        filterwarnings("ignore", "DCDReader currently makes independent timesteps", DeprecationWarning)
        found = []
        for topology, frames in ((PSF, DCD), (PSF, DCD2), (PSF_NAMD_GBIS, DCD_NAMD_GBIS)):
            trace = MDAnalysis.Universe(topology, frames).select_atoms("name CA")
            found.append(np.stack([trace.positions for _ in trace.universe.trajectory]))
    return found


SOURCES = (
    Adk(
        name="adk",
        keys=("adk_dims1", "adk_dims2", "adk_tmd"),
        rule=whole_trajectories,
        summary="adenylate kinase, 214 residues, 300 frames of 3 transitions, in the package MDAnalysisTests; no download",
        licence="LGPL-3 or later (MDAnalysisTests)",
    ),
    Ensemble(
        name="hivpr",
        keys=("hivpr_md",),
        rule=blocks,
        summary="HIV-1 protease, 2 × 99 residues, 117 frames of molecular dynamics",
        licence="GPL-2 or later (bio3d)",
    ),
    Ensemble(
        name="bpti",
        keys=("bpti_md",),
        rule=blocks,
        summary="pancreatic trypsin inhibitor, 58 residues, 100 frames of molecular dynamics",
        licence="LGPL-3 (PyEMMA)",
    ),
    Ensemble(
        name="rhodopsin",
        keys=("rhodopsin_md",),
        rule=blocks,
        summary="bovine rhodopsin, 345 residues, 51 frames of molecular dynamics",
        licence="MIT (nglview)",
    ),
    Ensemble(
        name="nmr-1gya",
        keys=("nmr_1gya",),
        rule=models,
        summary="N-terminal domain of human CD2, 105 residues, 18 NMR models (PDB 1GYA)",
        licence="CC0 (Protein Data Bank)",
    ),
    Ensemble(
        name="nmr-1l2y",
        keys=("nmr_1l2y",),
        rule=models,
        summary="Trp-cage, 20 residues, 38 NMR models (PDB 1L2Y)",
        licence="CC0 (Protein Data Bank)",
    ),
    Ensemble(
        name="neopetrosiamide",
        keys=("nmr_neopetrosiamide",),
        rule=models,
        summary="neopetrosiamide A, 27 residues, 24 NMR models (PDB 2JUY)",
        licence="CC0 (Protein Data Bank)",
    ),
    Ensemble(
        name="transducin",
        keys=("xtal_transducin",),
        rule=structures,
        summary="transducin, 305 residues, 53 crystal structures, aligned",
        licence="CC0 (Protein Data Bank), GPL-2 or later (the alignment, bio3d)",
    ),
    Ensemble(
        name="kinesin",
        keys=("xtal_kinesin",),
        rule=structures,
        summary="kinesin motor domain, 235 residues, 15 crystal structures, aligned",
        licence="CC0 (Protein Data Bank), GPL-2 or later (the alignment, bio3d)",
    ),
)
