from __future__ import annotations

from pathlib import Path

import pytest

from topo_utils import seed
from topo_utils.datasets import REGISTRY, _chemistry, _dataset, _isomorphism, _qm9, _walks, graphs, molecules


@pytest.mark.parametrize(
    ("domain", "source", "module"),
    [
        *((molecules, "g2", module) for module in (molecules, _chemistry, _qm9)),
        *((graphs, "social", module) for module in (graphs, _walks, _isomorphism, _dataset, seed)),
    ],
)
def test_a_cache_is_named_by_all_the_code_that_decides_its_content(domain, source, module, monkeypatch):
    names, read = [], Path.read_text
    monkeypatch.setattr(domain, "cached", lambda name, make: names.append(name) or {})

    def named():
        with pytest.raises(KeyError):  # of what is cached nothing is there
            REGISTRY[source].load("train")
        return names[-1]

    before, changed = named(), Path(module.__file__)
    assert named() == before
    monkeypatch.setattr(Path, "read_text", lambda file, *how, **more: read(file, *how, **more) + "#" * (file == changed))
    assert named() != before
