"""The reference is made from the docstrings alone, and nothing in them is amiss."""

import subprocess
import sys
import typing
from inspect import get_annotations
from pathlib import Path

import pytest

import sklopa
from sklopa import inspection, metrics, serving
from sklopa.errors import InvalidParameter

CLASSES = [
    value
    for module in (sklopa, inspection, metrics, serving)
    for name in module.__all__
    if isinstance(value := getattr(module, name), type)
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_types_of_a_public_class_can_be_looked_up_from_outside(kind):
    annotations = get_annotations(kind, eval_str=True)
    assert not [name for name, found in annotations.items() if isinstance(found, str)]


def test_types_of_parameters_are_types_in_every_estimator():
    for kind in (sklopa.LoPAClassifier, sklopa.LoPAGenerator, sklopa.LoPAImageClassifier):
        hints = typing.get_type_hints(kind.__init__)
        assert hints["rank"] is int
        assert sklopa.Backbone in typing.get_args(hints["model"])


def test_a_description_without_a_model_says_what_is_missing():
    with pytest.raises(InvalidParameter, match="model must be a hub id or a folder"):
        sklopa.Backbone()


def test_pages_are_made_without_a_warning(tmp_path):
    pytest.importorskip("pdoc", reason="the extra docs makes the pages")
    done = subprocess.run(
        [sys.executable, "-m", "pdoc", "--docformat", "numpy", "sklopa", "-o", str(tmp_path)],
        cwd=Path(sklopa.__file__).parents[1], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout + done.stderr == ""
    page = (tmp_path / "sklopa.html").read_text()
    for name in ("LoPAClassifier", "LoPARegressor", "LoPAGenerator", "LoPAImageClassifier"):
        assert f'id="{name}.fit"' in page
        assert f'id="{name}.predict"' in page
    assert (tmp_path / "sklopa" / "serving.html").exists()
