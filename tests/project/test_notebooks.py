"""The notebooks run from top to bottom with small settings, and are stored without outputs."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "experiments" / "notebooks"
SHRUNK = {
    "quickstart": {"RUNLOCAL": True},
    "embeddings": {"RUNLOCAL": True},
    "colab_tpu": {"SIZE": 32, "BATCH": 16, "MODEL": "resnet8_cifar"},
}


def test_every_notebook_is_run_here():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(SHRUNK)


@pytest.mark.parametrize("name", SHRUNK)
def test_stored_without_outputs(name):
    for cell in nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == [], cell.source
            assert cell.execution_count is None, cell.source


def _with_parameters(notebook, values):
    """Sets parameters in the notebook's cell of settings."""
    (cell,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    lines = cell.source.splitlines()
    for key, value in values.items():
        (index,) = [i for i, line in enumerate(lines) if line.startswith(f"{key} = ")]
        lines[index] = f"{key} = {value!r}"
    cell.source = "\n".join(lines)
    return notebook


@pytest.mark.slow
@pytest.mark.parametrize("name", SHRUNK)
def test_runs(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    notebook = _with_parameters(notebook, {"WORK": str(tmp_path), **SHRUNK[name]})
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    )
    client.execute(env=dict(os.environ))
    printed = [
        "".join(o.get("text", "") for o in cell.get("outputs", []) if o.output_type == "stream")
        for cell in notebook.cells
    ]
    assert any(("balanced_accuracy" in text) for text in printed)
    assert list(tmp_path.rglob("report.html"))
