"""The files of QM9: those of the package qm9pack, or all in one."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rdkit import Chem

from topo_utils.datasets._chemistry import Record, agree

TARGETS = (
    *("rotational constant A (GHz)", "rotational constant B (GHz)", "rotational constant C (GHz)", "dipole moment (D)"),
    *("polarizability (bohr³)", "HOMO energy (Ha)", "LUMO energy (Ha)", "HOMO-LUMO gap (Ha)"),
    *("electronic spatial extent (bohr²)", "zero-point vibrational energy (Ha)", "internal energy at 0 K (Ha)"),
    *("internal energy at 298.15 K (Ha)", "enthalpy at 298.15 K (Ha)", "free energy at 298.15 K (Ha)"),
    "heat capacity at 298.15 K (cal/mol K)",
)


def folder_of_package() -> Path | None:
    """Folder of the package's data; found without importing it, which needs a module that new Pythons lack."""
    try:
        return Path(distribution("qm9pack").locate_file("qm9pack/data"))
    except PackageNotFoundError:
        return None


class Row(NamedTuple):
    """One row of QM9: all atoms, hydrogens too."""

    number: int
    smiles: str
    elements: np.ndarray
    positions: np.ndarray
    targets: np.ndarray


def read_npz(file: Path) -> Iterator[Row]:
    """All rows of ``qm9_full.npz``."""
    with np.load(file, allow_pickle=False) as stored:
        arrays = dict(stored)
    ends = np.cumsum(arrays["n_atoms"], dtype=int)[:-1]
    columns = arrays["index"], arrays["smiles"].tobytes().decode().split("\n"), np.split(arrays["Z"], ends)
    return map(Row, *columns, np.split(arrays["pos"], ends), arrays["props"])


def read_csv(files: Iterable[Path]) -> Iterator[Row]:
    """All rows of the package's files."""
    number_of = Chem.GetPeriodicTable().GetAtomicNumber
    for file in files:
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                symbols = row["Elements"].strip("[]").replace("'", "").split(",")
                elements = np.array([number_of(symbol) for symbol in symbols])
                positions = np.array(row["XYZ_Ang"].replace("[", "").replace("]", "").split(","), dtype=np.float32)
                targets = np.array(list(row.values())[-len(TARGETS) :], dtype=float)
                yield Row(int(row["Index"]), row["SMILES"], elements, positions.reshape(-1, 3), targets)


def records(molecules: Iterable[Row]) -> Iterator[Record]:
    """Those whose geometry agrees with their SMILES, in the order of their numbers."""
    for row in sorted(molecules, key=lambda row: row.number):
        molecule = Chem.MolFromSmiles(row.smiles)
        if agree(molecule, row.elements, row.positions):
            yield Record(int(row.number), molecule, row.positions[row.elements > 1], row.targets)
