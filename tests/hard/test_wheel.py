"""What is installed from a wheel is the whole package."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sklopa

ROOT = Path(sklopa.__file__).parents[1]
FIT = """
import sys, pickle, pathlib
import sklopa
assert pathlib.Path(sklopa.__file__).is_relative_to({target!r}), sklopa.__file__
sklopa.LoPAClassifier()
assert not {{"torch", "transformers", "matplotlib"}} & set(sys.modules)
clf = sklopa.LoPAClassifier({model!r}, prompt_length=2, rank=1, bottleneck=4, max_iter=1)
clf.fit(["good film", "bad film"] * 4, ["pos", "neg"] * 4).predict(["good"])
stored = pickle.dumps(clf)
assert b"sklopa" in stored
assert b"sklopa._" not in stored
sklopa.datasets.load_intents()
"""


@pytest.mark.stress
def test_a_wheel_carries_all_folders_and_a_pickle_names_none_of_them(tmp_path, tiny_folder):
    wheels, target = tmp_path / "wheels", tmp_path / "target"
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", str(ROOT), "--no-deps", "-w", str(wheels)], check=True)
    (wheel,) = wheels.iterdir()
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True)
    folders = {path.relative_to(ROOT) for path in (ROOT / "sklopa").rglob("*.py")}
    assert folders == {path.relative_to(target) for path in (target / "sklopa").rglob("*.py")}
    code = FIT.format(target=str(target), model=tiny_folder)
    environment = os.environ | {"PYTHONPATH": str(target)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
