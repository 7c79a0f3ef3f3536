"""What RDKit knows of the molecules: codes of the graph from a molecule and back, and arrays of a source's records.

The codes of a molecule are the kinds of its nine atoms, numbers in (none, C, N, O, F), and the orders of its 36 bonds, in
(none, single, double, triple).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from rdkit import Chem, rdBase
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int

ATOMS = 9
ELEMENTS = ("C", "N", "O", "F")
VALENCES = (0, 4, 3, 2, 1)  # of no atom, C, N, O, F
ORDERS = (None, Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)
FIRST, SECOND = torch.triu_indices(ATOMS, ATOMS, 1)  # the two slots of each pair
PAIRS = list(zip(FIRST.tolist(), SECOND.tolist(), strict=True))


class Record(NamedTuple):
    """A sanitised molecule without hydrogens, its number in the source, where its atoms are (Å), and its targets."""

    number: int
    molecule: Chem.Mol
    positions: np.ndarray
    targets: tuple[float, ...] | np.ndarray = ()


def build(kinds: list[int], orders: list[int]) -> Chem.Mol:
    """The molecule of these codes, not sanitised; a bond of an absent atom is left out."""
    molecule = Chem.RWMol()
    index = {slot: molecule.AddAtom(Chem.Atom(ELEMENTS[kind - 1])) for slot, kind in enumerate(kinds) if kind}
    for (first, second), order in zip(PAIRS, orders, strict=True):
        if order and first in index and second in index:
            molecule.AddBond(index[first], index[second], ORDERS[order])
    return molecule.GetMol()


def sanitised(molecule: Chem.Mol) -> Chem.Mol | None:
    """A copy that RDKit has sanitised; None where it cannot, or where there is not one piece."""
    molecule = Chem.Mol(molecule)
    with rdBase.BlockLogs():
        sound = Chem.SanitizeMol(molecule, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE
    return molecule if sound and len(Chem.GetMolFrags(molecule)) == 1 else None


def smiles_of(molecule: Chem.Mol) -> str | None:
    """Canonical SMILES; None where the molecule is not valid."""
    sound = sanitised(molecule)
    return None if sound is None else Chem.MolToSmiles(sound)


def encode(molecule: Chem.Mol) -> tuple[list[int], list[int]]:
    """Codes of a molecule, and which of its atoms stands in each slot; ValueError where an item cannot hold it."""
    wrong = _misfit(_neutral(molecule))
    if wrong:
        raise ValueError(wrong)
    flat = Chem.Mol(molecule)
    Chem.RemoveStereochemistry(flat)
    smiles = Chem.MolToSmiles(flat)
    order = json.loads(flat.GetProp("_smilesAtomOutputOrder"))
    kekule = _neutral(Chem.MolFromSmiles(smiles))
    symbols = [atom.GetSymbol() for atom in kekule.GetAtoms()]
    kinds = [1 + ELEMENTS.index(symbol) for symbol in symbols] + [0] * (ATOMS - len(symbols))
    bonds = {tuple(sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx()))): b.GetBondType() for b in kekule.GetBonds()}
    orders = [ORDERS.index(bonds.get(pair)) for pair in PAIRS]
    back = smiles_of(build(kinds, orders))
    if back != smiles:
        raise ValueError(f"wanted a molecule that its graph describes, got {smiles}, whose graph is that of {back}")
    return kinds + orders, order


def repaired(atoms: Float[Tensor, "9 5"], bonds: Float[Tensor, "36 4"]) -> list[int]:
    """Codes of a valid molecule near these probabilities, see :func:`topo_utils.datasets.molecules.valid_decode`."""
    bonds = bonds.tolist()
    kinds, orders = atoms.argmax(-1).tolist(), [0] * len(PAIRS)
    if not any(kinds):
        slot, kind = divmod(int(atoms[:, 1:].argmax()), len(ELEMENTS))
        kinds[slot] = kind + 1
    free, fragment = [VALENCES[kind] for kind in kinds], list(range(ATOMS))

    def bond(pair: int, order: int) -> None:
        first, second = PAIRS[pair]
        if not orders[pair] and min(free[first], free[second]) >= order:
            orders[pair] = order
            free[first] -= order
            free[second] -= order
            joined = fragment[first], fragment[second]
            fragment[:] = [joined[0] if label == joined[1] else label for label in fragment]

    likely = [(p, pair, order) for pair, row in enumerate(bonds) for order, p in enumerate(row) if order and p > row[0]]
    for _, pair, order in sorted(likely, key=lambda bond: -bond[0]):
        bond(pair, order)
    for pair in sorted(range(len(PAIRS)), key=lambda pair: -bonds[pair][1]):
        first, second = PAIRS[pair]
        if fragment[first] != fragment[second]:
            bond(pair, 1)
    labels = [label for label, kind in zip(fragment, kinds, strict=True) if kind]
    largest = max(labels, key=labels.count)
    kinds = [kind if label == largest else 0 for kind, label in zip(kinds, fragment, strict=True)]
    orders = [order if kinds[first] else 0 for order, (first, _) in zip(orders, PAIRS, strict=True)]
    return kinds + orders


def _neutral(molecule: Chem.Mol) -> Chem.Mol:
    """Kekulé form, in which neighbours of opposite charge have one bond more: N(=O)=O for [N+](=O)[O-]."""
    molecule = Chem.Mol(molecule)
    Chem.Kekulize(molecule, clearAromaticFlags=True)
    for bond in molecule.GetBonds():
        ends, kind = (bond.GetBeginAtom(), bond.GetEndAtom()), bond.GetBondType()
        if kind != ORDERS[-1] and sorted(atom.GetFormalCharge() for atom in ends) == [-1, 1]:
            bond.SetBondType(ORDERS[ORDERS.index(kind) + 1])
            for atom in ends:
                atom.SetFormalCharge(0)
    return molecule


def _misfit(molecule: Chem.Mol) -> str | None:
    """What keeps a molecule from being an item."""
    atoms = list(molecule.GetAtoms())
    others = sorted({atom.GetSymbol() for atom in atoms} - set(ELEMENTS))
    if others:
        return f"wanted the elements C, N, O and F alone, got {', '.join(others)}"
    if not 1 <= len(atoms) <= ATOMS:
        return f"wanted 1 to {ATOMS} heavy atoms, got {len(atoms)}"
    if any(atom.GetFormalCharge() or atom.GetNumRadicalElectrons() or atom.GetIsotope() for atom in atoms):
        return "wanted no charges, radicals or isotopes, of which the graph of the heavy atoms knows nothing"
    fragments = len(Chem.GetMolFrags(molecule))
    return None if fragments == 1 else f"wanted one connected molecule, got {fragments} fragments"


def convert(records: Iterable[Record]) -> dict[str, np.ndarray]:
    """Arrays of all records that an item can hold; ``molecule`` numbers the graphs in the order of their first record."""
    kept = []
    for record in records:
        try:
            codes, order = encode(record.molecule)
        except ValueError:  # what an item cannot hold is left out
            continue
        coordinates = np.zeros((ATOMS, 3), np.float32)
        coordinates[: len(order)] = record.positions[order]
        kept.append((codes, coordinates, record.number, record.targets))
    codes, coordinates, numbers, targets = map(np.array, zip(*kept, strict=True))
    codes = codes.astype(np.uint8)
    _, first, same = np.unique(codes, axis=0, return_index=True, return_inverse=True)
    molecule = first.argsort().argsort()[same.reshape(-1)]
    arrays = {"codes": codes, "molecule": molecule, "coordinates": coordinates, "number": numbers}
    return arrays | ({"targets": targets.astype(np.float32)} if targets.shape[1] else {})


def one_hot(codes: Int[Tensor, "*batch 45"]) -> Float[Tensor, "*batch d"]:
    """Items of these codes."""
    atoms, bonds = codes[..., :ATOMS].long(), codes[..., ATOMS:].long()
    parts = torch.eye(len(VALENCES))[atoms], torch.eye(len(ORDERS))[bonds]
    return torch.cat([part.flatten(-2) for part in parts], dim=-1)


def symmetric(pairs: Float[Tensor, "*batch 36"]) -> Float[Tensor, "*batch 9 9"]:
    """What is said of each pair of slots, as a symmetric matrix, zero on the diagonal."""
    matrix = pairs.new_zeros(*pairs.shape[:-1], ATOMS, ATOMS)
    matrix[..., FIRST, SECOND] = pairs
    return matrix + matrix.mT


def agree(molecule: Chem.Mol, elements: np.ndarray, positions: np.ndarray) -> bool:
    """Whether heavy atoms stand in the molecule's order, bonds are shorter than 1.9 Å, and hydrogens are by their atoms."""
    atoms, heavy, hydrogens = list(molecule.GetAtoms()), positions[elements > 1], positions[elements == 1]
    if [atom.GetAtomicNum() for atom in atoms] != elements[elements > 1].tolist():
        return False
    ends = np.array([(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in molecule.GetBonds()], int).reshape(-1, 2)
    lengths = np.linalg.norm(heavy[ends[:, 0]] - heavy[ends[:, 1]], axis=1)
    nearest = np.linalg.norm(hydrogens[:, None] - heavy, axis=2).argmin(1)
    held = np.bincount(nearest, minlength=len(atoms)).tolist()
    return bool((lengths < 1.9).all()) and held == [atom.GetTotalNumHs() for atom in atoms]
