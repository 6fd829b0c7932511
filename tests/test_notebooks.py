"""The notebooks: a .py and its .ipynb say the same, no output is stored, and each runs in a kernel of its own."""

from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
SOURCES = sorted(FOLDER.glob("*.py"))

each = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def cells(notebook):
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def test_every_notebook_is_a_pair():
    assert SOURCES
    assert [path.stem for path in SOURCES] == [path.stem for path in sorted(FOLDER.glob("*.ipynb"))]


@each
def test_both_files_of_a_pair_say_the_same(source):
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert cells(notebook) == cells(jupytext.read(source)), "write the .ipynb again: make notebooks"


@each
def test_no_output_is_stored(source):
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(notebook)
    assert not outputs(notebook), "write the .ipynb again: make notebooks"
    assert all(cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")


@each
@pytest.mark.timeout(120)
def test_a_notebook_runs_in_a_fresh_kernel_and_leaves_nothing_behind(source, tmp_path, monkeypatch):
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
        (tmp_path / name).mkdir()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    here = tmp_path / "here"
    here.mkdir()
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    NotebookClient(notebook, resources={"metadata": {"path": str(here)}}).execute()
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))
    assert [output.text for output in outputs(notebook) if output.get("name") == "stderr"] == []  # no warning either
    assert not list(here.iterdir())
    assert not list((tmp_path / "TMPDIR").glob("tmp*"))  # as tempfile calls its folders; torch has a cache there too
