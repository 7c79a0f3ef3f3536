from __future__ import annotations

import pytest

from topo_utils import paths


def test_environment_variables_move_the_folders(monkeypatch, tmp_path):
    assert paths.runs() == paths.home() / "runs"
    assert paths.places("mnist") == [paths.raw() / "mnist"]
    monkeypatch.setenv("TOPO_DATA", str(tmp_path / "shared"))
    assert paths.places("mnist") == [tmp_path / "shared" / "mnist", paths.raw() / "mnist"]
    monkeypatch.delenv("TOPO_HOME")
    assert paths.home() == paths.REPOSITORY / "data"


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    file = tmp_path / "new" / "file.txt"
    with paths.atomic(file) as scratch:
        scratch.write_text("first")
        assert not file.exists()
    with pytest.raises(ZeroDivisionError), paths.atomic(file) as scratch:
        scratch.write_text(f"half {1 / 0}")
    assert file.read_text() == "first"
    assert [child.name for child in file.parent.iterdir()] == ["file.txt"]
