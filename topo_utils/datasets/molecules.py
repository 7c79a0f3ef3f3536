"""Molecules of up to nine heavy atoms C, N, O, F: ``nci`` and ``g2`` (in packages that we depend on) and ``qm9``.

An item is the molecule's graph, without hydrogens, as a flat one-hot vector of 9·5 + 36·4 = 189 numbers: for each of nine
atom slots one of (none, C, N, O, F); for each pair of slots i < j, in the row order of the upper triangle, one of (none,
single, double, triple), aromatic rings in Kekulé form. The atoms stand in the order of RDKit's canonical SMILES and the
Kekulé form is RDKit's of that SMILES, so a molecule is one item, however it was written down; absent atoms come last.

Hydrogens are implicit: they fill each atom's valence. Charges on neighbours are written as one more bond, a nitro group as
N(=O)=O, which RDKit reads as [N+](=O)[O-]. Other charges, and radicals, cannot be told from such a graph: these molecules
are left out. Stereochemistry is dropped. Every molecule that is kept gives back its canonical SMILES; this is verified for
each of them when the data are converted, once, to arrays that are cached.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from rdkit import Chem, RDConfig, rdBase
from rdkit.Chem import rdDetermineBonds, rdDistGeom
from scipy.stats import wasserstein_distance
from torch import Tensor

from topo_utils import paths
from topo_utils.datasets import _chemistry, _qm9
from topo_utils.datasets._chemistry import (
    ATOMS,
    ELEMENTS,
    FIRST,
    ORDERS,
    PAIRS,
    SECOND,
    VALENCES,
    Record,
    one_hot,
    symmetric,
)
from topo_utils.datasets._dataset import DataError, Dataset, Domain, Source, mixed, share, shuffled
from topo_utils.datasets._files import cached, code, find, verified

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from matplotlib.axes import Axes


class Molecules(Domain):
    """Molecular graphs, d = 189 numbers each.

    Betti numbers are those of the graph of the most probable atoms and bonds: fragments, and independent cycles (the cycle
    rank: bonds - atoms + fragments). ``cloud`` gives edge weights 2 - p, where p is the probability of a bond: that there
    is one, times that both its atoms are there. In the clique complex that these weights filter, a ring of three atoms is
    filled: it is a cycle of the graph, but no bar. Absent atoms are isolated until all is joined at weight 2.
    """

    name = "molecules"
    label = "number of rings (cycle rank)"
    filtration = "graph"

    def atoms(self, items: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch 9 5"]:
        """The part that says which atoms there are, of none, C, N, O, F."""
        return items[..., : ATOMS * len(VALENCES)].unflatten(-1, (ATOMS, len(VALENCES)))

    def bonds(self, items: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch 36 4"]:
        """The part that says which bonds there are, of none, single, double, triple."""
        return items[..., ATOMS * len(VALENCES) :].unflatten(-1, (len(PAIRS), len(ORDERS)))

    def check(self, items: Tensor) -> str | None:
        if items.shape[1:] != (189,):
            return f"wanted molecules of shape (n, 189), got {tuple(items.shape)}"
        for what, part in (("atoms", self.atoms(items)), ("bonds", self.bonds(items))):
            wrong = ~(((part == 0) | (part == 1)).all(-1) & (part.sum(-1) == 1)).all(-1)
            if wrong.any():
                first = int(wrong.nonzero()[0])
                return f"wanted one-hot {what}, got others in item {first} ({int(wrong.sum())} such items)"
        there = self.atoms(items)[..., 0] == 0
        stray = ((self.bonds(items)[..., 0] == 0) & ~(there[:, FIRST] & there[:, SECOND])).any(-1)
        if stray.any():
            return f"wanted bonds between atoms, got one of an absent atom in item {int(stray.nonzero()[0])}"
        return None

    def draw(self, axes: Axes, item: Float[Tensor, " d"]) -> None:
        """Draw the most probable atoms and bonds as RDKit does; what is not valid is drawn as it is."""
        from rdkit.Chem.Draw import MolDrawOptions, MolToImage  # here: it loads a drawing library

        molecule, options = to_mol(item), MolDrawOptions()
        options.setAtomPalette({-1: (0.1, 0.1, 0.1), 7: (0, 0.45, 0.7), 8: (0.84, 0.37, 0), 9: (0.8, 0.47, 0.65)})
        valid = is_valid(molecule)
        if valid:
            Chem.SanitizeMol(molecule)
        else:
            molecule.UpdatePropertyCache(strict=False)  # numbers of hydrogens, for the labels
            options.prepareMolsBeforeDrawing = False
        axes.imshow(MolToImage(molecule, size=(300, 300), kekulize=valid, options=options), interpolation="bilinear")
        axes.set_axis_off()

    def cloud(self, items: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch 9 9"]:
        there = 1 - self.atoms(items)[..., 0]
        bonds = (1 - self.bonds(items)[..., 0]) * there[..., FIRST] * there[..., SECOND]
        return (2 - symmetric(bonds)) * (1 - torch.eye(ATOMS, dtype=items.dtype, device=items.device))

    def betti(self, items: Float[Tensor, "*batch d"]) -> Int[Tensor, "*batch 2"]:
        there = self.atoms(items).argmax(-1) > 0
        bonds = (self.bonds(items).argmax(-1) > 0) & there[..., FIRST] & there[..., SECOND]
        near = symmetric(bonds.float()) + torch.eye(ATOMS, device=items.device)
        reach = torch.linalg.matrix_power(near, ATOMS - 1) > 0
        leads = reach.int().argmax(-1) == torch.arange(ATOMS, device=items.device)  # one atom a fragment: its first
        fragments = (leads & there).sum(-1)
        return torch.stack([fragments, bonds.sum(-1) - there.sum(-1) + fragments], dim=-1)

    def outliers(self, items: Float[Tensor, "n d"], stream: torch.Generator) -> dict[str, Float[Tensor, "n d"]]:
        """``shuffled``: each atom and each bond is that of another molecule in its place; most are no valid molecules."""
        parts = (shuffled(part, stream).flatten(1) for part in (self.atoms(items), self.bonds(items)))
        return {"shuffled": torch.cat(list(parts), 1)}

    def quality(self, samples: Float[Tensor, "m d"], data: Dataset, train: Dataset) -> dict[str, float]:
        """Shares, without repair of any kind. ``valid``: RDKit sanitises it and it is one piece; ``unique``: different ones
        among the valid; ``novel``: those among the different that are not in ``train``. And ``ring_distance``:
        1-Wasserstein, between the numbers of rings of all samples and of the data.
        """
        rings = [self.betti(items)[:, 1].tolist() for items in (samples, data.items)]
        valid = [smiles for smiles in map(to_smiles, samples) if smiles is not None]
        different = set(valid)
        known = {item.numpy().tobytes() for item in train.items}
        novel = sum(from_smiles(each).numpy().tobytes() not in known for each in different)
        return {
            "valid": len(valid) / len(samples),
            "unique": len(different) / max(1, len(valid)),
            "novel": novel / max(1, len(different)),
            "ring_distance": float(wasserstein_distance(*rings)),
        }


DOMAIN = Molecules()


def to_mol(item: Float[Tensor, " d"]) -> Chem.Mol:
    """The most probable atoms and the most probable bonds between them as RDKit's molecule, not repaired, not sanitised."""
    return _chemistry.build(DOMAIN.atoms(item).argmax(-1).tolist(), DOMAIN.bonds(item).argmax(-1).tolist())


def is_valid(molecule: Chem.Mol) -> bool:
    """Whether there is an atom, all is connected, and RDKit can sanitise it: valences, Kekulé forms."""
    return _chemistry.sanitised(molecule) is not None


def to_smiles(item: Float[Tensor, " d"]) -> str | None:
    """Canonical SMILES of the most probable atoms and bonds; None where they are no valid molecule."""
    return _chemistry.smiles_of(to_mol(item))


def from_smiles(smiles: str) -> Float[Tensor, " d"]:
    """The item of a molecule.

    Raises
    ------
    ValueError
        It is no SMILES, or not of a molecule that an item can hold: connected, at most nine heavy atoms, C, N, O and F
        alone, and no radicals, isotopes, or charges but those of neighbours that cancel.
    """
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise ValueError(f"smiles: wanted a SMILES string, got {smiles!r}, which RDKit cannot read")
    try:
        codes, _ = _chemistry.encode(molecule)
    except ValueError as error:
        raise ValueError(f"smiles: {error}, in {smiles!r}") from error
    return one_hot(torch.tensor(codes))


def valid_decode(probabilities: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    """A valid molecule near the probabilities. This is a *repair*: report it apart from what argmax gives.

    The atoms are the most probable ones. Bonds that are more probable than no bond are made in the order of their
    probability, where both atoms have the valence free. Then fragments are joined by single bonds, the most probable first;
    of fragments that have no valence left for that, only the largest is kept. A valid molecule is returned as it is, unless
    an atom has more than its usual valence (C 4, N 3, O 2, F 1), as N has in a nitro group.
    """
    codes = _chemistry.repaired(DOMAIN.atoms(probabilities), DOMAIN.bonds(probabilities))
    return one_hot(torch.tensor(codes)).to(probabilities)


def coordinate_clouds(data: Dataset) -> Float[Tensor, "n 9 3"]:
    """Heavy atoms in space, Å, one cloud a molecule, for the Rips filtration.

    Absent atoms lie where the first atom is: a repeated point changes no diagram, because a bar of length zero is none.
    """
    absent = torch.arange(ATOMS) >= data.properties["atoms_count"][:, None]
    coordinates = data.properties["coordinates"]
    return coordinates[:, :1].where(absent[..., None], coordinates)


class _Converted(Source):
    """A source of records, which are turned into arrays once and cached.

    Properties of its items: ``coordinates`` (n, 9, 3) in Å, 0 for absent atoms; ``atoms_count``; ``number`` in the source.
    Splits are by molecule: all that have the same graph stay together.
    """

    domain = DOMAIN
    shares: Mapping[str, float]

    @abstractmethod
    def origin(self) -> tuple[str, ...]:
        """Checksums or versions that name the source's content."""

    @abstractmethod
    def records(self, root: Path | None) -> Iterable[Record]:
        """All molecules of the source."""

    @property
    def key(self) -> str:
        """Name of the cache; it covers all that decides the content."""
        parts = json.dumps([self.origin(), code(Molecules, _chemistry, _qm9), rdBase.rdkitVersion])
        return f"{self.name}-{hashlib.sha256(parts.encode()).hexdigest()[:8]}"

    def present(self, root: Path | None = None) -> bool:
        return True

    def load(self, split: str, root: Path | None = None) -> Dataset:
        arrays = cached(self.key, lambda: _chemistry.convert(self.records(root)))
        rows = _rows(arrays.pop("molecule"), self.shares, split)
        properties = {name: torch.from_numpy(values[rows]) for name, values in arrays.items()}
        codes = properties.pop("codes")
        properties["atoms_count"] = (codes[:, :ATOMS] > 0).sum(1)
        items = one_hot(codes)
        return Dataset(self.name, split, DOMAIN, items, DOMAIN.betti(items)[:, 1], properties)


class Nci(_Converted):
    """Those of the first 5,000 molecules of the NCI Open Database that fit.

    RDKit ships their SMILES. Coordinates are computed, not measured: a conformer of each by RDKit's ETKDG (Riniker &
    Landrum, J. Chem. Inf. Model. 55, 2015). Splits by molecule: 60 % train, 10 % validation, 15 % test, 15 % judge.
    """

    name = "nci"
    licence = "public domain (US National Cancer Institute), as shipped by RDKit (BSD-3)"
    summary = "421 real molecules of up to 9 atoms C, N, O, F, in the package rdkit; coordinates computed; no download"
    shares = {"train": 0.6, "validation": 0.1, "test": 0.15, "judge": 0.15}

    def origin(self) -> tuple[str, ...]:
        return (rdBase.rdkitVersion,)

    def records(self, root: Path | None) -> Iterator[Record]:
        embed = rdDistGeom.ETKDGv3()
        embed.randomSeed = 0
        lines = (Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi").read_text().splitlines()
        seen = set()
        with rdBase.BlockLogs():
            for smiles, number in map(str.split, lines):
                molecule = Chem.MolFromSmiles(smiles)
                if molecule is None or molecule.GetNumAtoms() > ATOMS or (canonical := Chem.MolToSmiles(molecule)) in seen:
                    continue  # RDKit cannot read eight of them
                seen.add(canonical)
                whole = Chem.AddHs(molecule)
                if rdDistGeom.EmbedMolecule(whole, embed) == 0:
                    yield Record(int(number), molecule, whole.GetConformer().GetPositions()[: molecule.GetNumAtoms()])


class G2(_Converted):
    """Those of the 162 species of the G2/97 test set that fit; their MP2(full)/6-31G(d) geometries are in the package ase.

    Curtiss, Raghavachari, Redfern & Pople, J. Chem. Phys. 106, 1997. Bonds are RDKit's, from the positions of all atoms.
    Splits by molecule: 70 % train, 10 % validation, 20 % test.
    """

    name = "g2"
    licence = "LGPL-2.1 or later (ase)"
    summary = "69 small molecules with their geometries, in the package ase; no download"
    splits = ("train", "validation", "test")
    shares = {"train": 0.7, "validation": 0.1, "test": 0.2}

    def origin(self) -> tuple[str, ...]:
        return (version("ase"),)

    def records(self, root: Path | None) -> Iterator[Record]:
        from ase.collections import g2  # here: it takes a second to import

        for number, atoms in enumerate(g2):
            symbols, elements, positions = atoms.get_chemical_symbols(), atoms.numbers, atoms.positions
            if not {"H", *ELEMENTS}.issuperset(symbols) or not (elements > 1).any():
                continue
            lines = (f"{symbol} {x:.8f} {y:.8f} {z:.8f}" for symbol, (x, y, z) in zip(symbols, positions, strict=True))
            molecule = Chem.MolFromXYZBlock("\n".join([str(len(symbols)), "", *lines]))
            try:
                rdDetermineBonds.DetermineBonds(molecule, charge=0)
            except ValueError:  # a radical: no bonds make its atoms neutral
                continue
            molecule = Chem.RemoveHs(molecule)
            if _chemistry.agree(molecule, elements, positions):  # a free atom would pass for its hydride
                yield Record(number, molecule, positions[elements > 1])


class Qm9(_Converted):
    """QM9: 130,831 characterised molecules with B3LYP/6-31G(2df,p) geometries and 15 properties.

    Ramakrishnan, Dral, Rupp & von Lilienfeld, Sci. Data 1, 140022, 2014; Ruddigkeit et al., J. Chem. Inf. Model. 52, 2012.
    Left out are 8 whose geometry does not agree with their SMILES and 443 zwitterions, whose charges an item cannot hold.
    Splits by molecule: 80 % train, 5 % validation, 10 % test, 5 % judge. The property ``targets`` (n, 15) holds what
    :attr:`targets` names.
    """

    name = "qm9"
    licence = "CC0 (data), MIT (the package qm9pack)"
    summary = "130,380 molecules of up to 9 atoms C, N, O, F, with geometries and properties; a package of 104 MB"
    shares = {"train": 0.8, "validation": 0.05, "test": 0.1, "judge": 0.05}
    targets = _qm9.TARGETS
    file = "qm9_full.npz"
    md5 = "424db00d980116b7d8c8fcd7ed083734"
    parts = {  # of qm9pack 1.0.3
        "qm9_part1.csv": "bf00723b300e10892ab90fd3fe2f86a7",
        "qm9_part2.csv": "28a2e37cf78ad547aacd27904642e77d",
        "qm9_part3.csv": "0bc3653148d46e4d1b8d6be6009f8f95",
    }

    def origin(self) -> tuple[str, ...]:
        return (self.md5, *self.parts.values())  # the file and the package hold the same

    def present(self, root: Path | None = None) -> bool:
        cache = paths.processed() / f"{self.key}.safetensors"
        return bool(find(self.name, [self.file], root) or cache.exists() or _qm9.folder_of_package())

    def load(self, split: str, root: Path | None = None) -> Dataset:
        self._archive(root)  # a damaged one is reported, even where the cache would do
        return super().load(split, root)

    def fetch(self) -> Path:
        """Convert the files of the package; raises DataError when it is not installed."""
        if not self.present():
            raise DataError(
                "the package qm9pack is not installed: run `make qm9`, or `pip install '.[qm9]'` and this command again"
            )
        self.load("test")
        return paths.processed() / f"{self.key}.safetensors"

    def records(self, root: Path | None) -> Iterable[Record]:
        archive, package = self._archive(root), _qm9.folder_of_package()
        if archive is None and package is None:
            how = "Get it with `make qm9`, or `pip install '.[qm9]'` and `python -m topo_utils.datasets fetch qm9`"
            raise self.missing(f"qm9/{self.file}", how, root)
        again = "Install it again: `pip install --force-reinstall qm9pack==1.0.3`"
        files = [] if archive else [verified(package / part, md5, again) for part, md5 in self.parts.items()]
        print("converting QM9, once; it takes a minute or two", flush=True)
        return _qm9.records(_qm9.read_npz(archive) if archive else _qm9.read_csv(files))

    def _archive(self, root: Path | None) -> Path | None:
        folder = find(self.name, [self.file], root)
        remedy = "Replace it, or unset TOPO_DATA and read qm9 from the package qm9pack"
        return folder and verified(folder / self.file, self.md5, remedy)


def _rows(molecule: Int[np.ndarray, " n"], shares: Mapping[str, float], split: str) -> np.ndarray:
    """Rows of a split, in a mixed order; different molecules are shared out, whatever number of rows each has."""
    count = int(molecule.max()) + 1
    sizes = {name: round(part * count) for name, part in shares.items()}
    sizes["train"] += count - sum(sizes.values())
    rows = np.flatnonzero(np.isin(molecule, share(np.arange(count), sizes, split)))
    return rows[mixed(len(rows)).numpy()]


SOURCES = (Nci(), G2(), Qm9())
