"""Files that earlier code wrote still load, and predict as they did."""

import pickle
import warnings
from pathlib import Path

import fixed_models as fixed
import numpy as np
import pytest
import skops.io

import sklopa
from sklopa.errors import ArchiveWarning

HERE = Path(__file__).parents[1] / "fixtures"
NAMES = sorted({path.stem for path in HERE.glob("*.npz")})
KINDS = ["classifier", "regressor", "generator", "images"]


@pytest.fixture(autouse=True)
def models(tmp_path_factory, monkeypatch):
    """The models that the files name, in the folder that they are named in."""
    folder = tmp_path_factory.getbasetemp() / "fixed"
    if not folder.exists():
        fixed.write(folder)
    monkeypatch.chdir(folder)


def load(path):
    if path.suffix == ".pickle":
        return pickle.loads(path.read_bytes())
    if path.suffix == ".skops":
        return skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ArchiveWarning)  # of other versions of libraries
        return sklopa.load(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["zip", "pickle", "skops"])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_before_loads_and_predicts_as_it_did(name, suffix, kind):
    estimator = load(HERE / f"{name}-{kind}.{suffix}")
    expected = np.load(HERE / f"{name}.npz")[kind]
    np.testing.assert_allclose(fixed.outputs_of(kind, estimator), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_skops_file_of_before_asks_to_trust_is_public_by_now(name):
    for kind in KINDS:
        asked = skops.io.get_untrusted_types(file=HERE / f"{name}-{kind}.skops")
        assert len(asked) <= 2
        assert {found.rsplit(".", 1)[1] for found in asked} <= {*sklopa.__all__}


def test_there_are_files_to_read():
    assert NAMES


def test_a_file_written_now_names_no_private_module(fitted3):
    estimator = load(HERE / f"{NAMES[0]}-classifier.pickle")
    assert b"sklopa._" not in pickle.dumps(estimator)


def test_no_other_private_name_is_found():
    with pytest.raises(ModuleNotFoundError):
        __import__("sklopa._fitting")
