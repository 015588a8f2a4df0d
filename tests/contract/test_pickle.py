"""Pickles are small, hold plain data only, and predict the same in a new process."""

import copy
import io
import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import tiny
from helpers import network_of
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import sklopa
from sklopa import Backbone, LoPAClassifier
from sklopa._loading import registry as _registry
from sklopa.errors import SklopaError

KINDS = {
    "plain": {},
    "prompt_tuning": {"rank": 0},
    "linear_probe": {"prompt_length": 0},
    "concat": {"gate": "concat"},
    "early_stopping": {"early_stopping": True},
    "train_encoder": {"train_encoder": True},
    "verbalizer": {"head": "verbalizer", "verbalizer": {"pos": "good", "neg": "bad"}},
    "random_state": {"random_state": np.random.RandomState(0)},
}
TEXTS = ["the film was good", "not a very bad plot", "", "red"]


class PlainUnpickler(pickle.Unpickler):
    """Refuses whatever belongs to a deep-learning library."""

    def find_class(self, module, name):
        if module.split(".")[0] not in {"sklopa", "numpy", "builtins", "collections", "copyreg"}:
            raise AssertionError(f"the pickle holds a {module}.{name}")
        return super().find_class(module, name)


def fit(tiny_folder, reviews, **options):
    options = {
        "prompt_length": 3, "rank": 2, "bottleneck": 8, "max_iter": 2, "random_state": 0,
    } | options  # fmt: skip
    return LoPAClassifier(tiny_folder, **options).fit(*reviews)


@pytest.fixture(scope="module")
def stored(tiny_folder, reviews):
    """A fitted classifier on a folder; tests do not change it."""
    return fit(tiny_folder, reviews)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickle_is_small_plain_and_predicts_the_same(tiny_folder, reviews, kind):
    clf = fit(tiny_folder, reviews, **KINDS[kind])
    expected = clf.decision_function(TEXTS)  # its live network is there when it is pickled
    data = pickle.dumps(clf)
    assert len(data) < 2 * 4 * clf.n_trainable_parameters_ + 100_000
    loaded = PlainUnpickler(io.BytesIO(data)).load()
    np.testing.assert_array_equal(loaded.decision_function(TEXTS), expected)
    assert vars(loaded).keys() == vars(pickle.loads(pickle.dumps(loaded))).keys() | {"_network"}


@pytest.mark.parametrize("kind", ["labels_of_objects", "several_labels", "pairs", "weights"])
def test_a_pickle_of_other_data_is_plain_too(tiny_folder, reviews, kind):
    texts, labels = reviews
    X, y, weights = {
        "labels_of_objects": (texts, np.array(labels, dtype=object), None),
        "several_labels": (texts, [{label, "text"} for label in labels], None),
        "pairs": ([(text, "it") for text in texts], labels, None),
        "weights": (np.array(texts), np.array(labels), np.ones(len(texts))),
    }[kind]
    clf = LoPAClassifier(tiny_folder, prompt_length=2, rank=1, max_iter=1).fit(X, y, weights)
    clf.partial_fit(X, y)
    loaded = PlainUnpickler(io.BytesIO(pickle.dumps(clf))).load()
    np.testing.assert_array_equal(loaded.predict(X), clf.predict(X))


def test_a_joblib_file_is_small_and_plain(stored, tmp_path):
    joblib.dump(stored, tmp_path / "clf.joblib")
    data = (tmp_path / "clf.joblib").read_bytes()
    assert len(data) < 2 * 4 * stored.n_trainable_parameters_ + 100_000
    assert b"torch" not in data
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mapped = joblib.load(tmp_path / "clf.joblib", mmap_mode="r")
        np.testing.assert_array_equal(
            mapped.decision_function(TEXTS), stored.decision_function(TEXTS)
        )


def test_unpickling_loads_no_model_until_it_is_used(stored):
    data = pickle.dumps(stored)
    Backbone(stored.model).release()
    loaded = pickle.loads(data)
    assert Backbone(stored.model) not in _registry._loaded
    loaded.predict(TEXTS)
    assert Backbone(stored.model) in _registry._loaded


def test_pickling_does_not_change_the_estimator(stored):
    before = dict(vars(stored))
    pickle.dumps(stored)
    assert vars(stored) == before


def test_copies_share_the_backbone_and_predict_the_same(tiny_folder, reviews):
    for clf in (fit(tiny_folder, reviews), fit(tiny.backbone(), reviews)):
        expected = clf.decision_function(TEXTS)
        for other in (copy.copy(clf), copy.deepcopy(clf)):
            np.testing.assert_array_equal(other.decision_function(TEXTS), expected)
            assert network_of(other).frozen is network_of(clf).frozen


def test_training_a_loaded_estimator_goes_on_and_leaves_the_first(tiny_folder, reviews):
    clf = fit(tiny_folder, reviews, warm_start=True)
    before = clf.decision_function(TEXTS)
    for train in ("fit", "partial_fit"):
        loaded = pickle.loads(pickle.dumps(clf))
        getattr(loaded, train)(*reviews)
        assert loaded.n_iter_ == clf.n_iter_ + (2 if train == "fit" else 1)
        assert (loaded.decision_function(TEXTS) != before).any()
        np.testing.assert_array_equal(clf.decision_function(TEXTS), before)


def test_a_grid_search_and_a_pipeline_pickle(tiny_folder, reviews):
    clf = LoPAClassifier(tiny_folder, prompt_length=2, rank=1, max_iter=1, random_state=0)
    search = GridSearchCV(clf, {"rank": [0, 1]}, cv=2).fit(*reviews)
    pipe = make_pipeline(FunctionTransformer(), clf).fit(*reviews)
    for fitted in (search, pipe):
        loaded = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(loaded.predict_proba(TEXTS), fitted.predict_proba(TEXTS))


@pytest.mark.parametrize("dump", [pickle.dumps, lambda clf: joblib.dump(clf, io.BytesIO())])
def test_live_objects_are_refused_with_the_remedy(fitted, reviews, make_classifier, dump):
    search = GridSearchCV(make_classifier(max_iter=1), {"rank": [1]}, cv=2).fit(*reviews)
    for estimator in (fitted, make_classifier(), search, tiny.backbone()):
        with pytest.raises(SklopaError, match="live") as caught:
            dump(estimator)
        assert isinstance(caught.value, TypeError)
        assert "save_pretrained" in str(caught.value)
        assert "model=folder" in str(caught.value)


def test_a_description_pickles_as_a_description():
    backbone = Backbone("org/model", dtype="bfloat16", revision="abc")
    loaded = pickle.loads(pickle.dumps(backbone))
    assert loaded == backbone
    assert hash(loaded) == hash(backbone)
    assert len(pickle.dumps(backbone)) < 1000


# ---------------------------------------------------------------- new processes


def run_in_new_process(code, *arguments):
    """The JSON that `code` prints in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(Path(sklopa.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


_PREDICT = """
import json, pickle, sys
import joblib

folder, texts = sys.argv[1], json.loads(sys.argv[2])
with open(folder + "/clf.pickle", "rb") as file:
    loaded = [pickle.load(file), joblib.load(folder + "/clf.joblib")]
print(json.dumps([
    [clf.decision_function(texts).tolist(), clf.predict(texts).tolist()] for clf in loaded
]))
"""


def test_a_pickle_predicts_the_same_in_a_new_process(stored, tmp_path):
    (tmp_path / "clf.pickle").write_bytes(pickle.dumps(stored))
    joblib.dump(stored, tmp_path / "clf.joblib")
    for logits, labels in run_in_new_process(_PREDICT, tmp_path, json.dumps(TEXTS)):
        np.testing.assert_allclose(logits, stored.decision_function(TEXTS), atol=1e-5, rtol=0)
        assert labels == stored.predict(TEXTS).tolist()


_LIGHT = """
import json, pickle, sys
import sklopa
from sklearn.base import clone

after_import = [name for name in ("torch", "transformers") if name in sys.modules]
clf = clone(sklopa.LoPAClassifier(sklopa.Backbone("org/model"), rank=2)).set_params(rank=3)
repr(clf), clf._repr_html_(), clf.get_params(), clf.__sklearn_tags__()
loaded = pickle.loads(pickle.dumps(clf))
assert loaded.get_params() == clf.get_params()
after_use = [name for name in ("torch", "transformers") if name in sys.modules]
print(json.dumps([after_import, after_use]))
"""


def test_importing_building_cloning_printing_and_pickling_load_neither_torch_nor_transformers():
    assert run_in_new_process(_LIGHT) == [[], []]
