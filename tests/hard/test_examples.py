"""Each example opens as a notebook, runs from top to bottom, and leaves its picture."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from fake_server import FakeServer, serving

import sklopa

EXAMPLES = Path(sklopa.__file__).parents[1] / "examples"
NUMBERED = sorted(EXAMPLES.glob("[0-9][0-9]_*.py"))


def test_examples_have_numbers_without_a_gap_and_a_picture_and_a_line_in_the_guide():
    assert [path.name[:2] for path in NUMBERED] == [f"{i:02}" for i in range(1, len(NUMBERED) + 1)]
    guide = (EXAMPLES / "README.md").read_text()
    for path in NUMBERED:
        assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG"), path.name
        assert f"({path.name})" in guide
        assert f"({path.stem}.png)" in guide


@pytest.mark.real
@pytest.mark.stress
@pytest.mark.server  # a notebook's kernel listens on loopback
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", NUMBERED, ids=lambda path: path.stem)
def test_runs_as_a_notebook(path, tmp_path, monkeypatch):
    jupytext = pytest.importorskip("jupytext", reason="the extra examples makes notebooks")
    nbclient = pytest.importorskip("nbclient", reason="the extra examples runs notebooks")
    shutil.copy(EXAMPLES / "small_vit.py", tmp_path)  # what an example imports from beside it
    notebook = jupytext.read(path)
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert [output for output in outputs if "image/png" in output.get("data", ())]
    assert (tmp_path / f"{path.stem}.png").stat().st_size > 5_000
    warned = [o.text for o in outputs if o.get("name") == "stderr" and "Warning" in o.text]
    assert all("quantised weights" in text for text in warned), warned


@pytest.mark.real
@pytest.mark.server
def test_the_example_of_a_server_asks_one_that_runs_already(tmp_path):
    made, reader = tiny.model("llama")
    reader.chat_template = "{% for m in messages %}the {{ m['content'] }} {% endfor %}and it"
    made.save_pretrained(tmp_path)
    reader.save_pretrained(tmp_path)
    fake = FakeServer(*tiny.model("llama"))
    fake.joint, fake.around = "\n", ("the ", " and it")
    fake.listed = json.dumps({"data": [{"id": fake.name, "root": str(tmp_path)}]}).encode()
    command = [sys.executable, str(EXAMPLES / "vllm_server.py")]
    with serving(fake) as url:
        environment = os.environ | {"SKLOPA_VLLM_URL": url, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "with the model in this process: True" in done.stdout
    assert done.stdout.count("token for token as the estimator does") == 2
    assert "the bare model says" in done.stdout
