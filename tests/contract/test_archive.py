"""What `save` writes `load` reads: every kind of estimator, its labels, and what differs."""

import datetime
import json
import shutil
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tiny
import tiny_vision
from helpers import assert_same_state, design_of, named, raises
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

import sklopa
from sklopa import (
    Backbone,
    LoPAClassifier,
    LoPAGenerator,
    LoPAImageClassifier,
    LoPARegressor,
)
from sklopa._storage import files
from sklopa.errors import ArchiveWarning, InvalidArchive

TEXTS = ["the film was good", "not a very bad plot", "", "red"]
SMALL = {"prompt_length": 3, "rank": 2, "bottleneck": 8, "max_iter": 2, "random_state": 0}
KINDS = {
    "plain": {},
    "prompt_tuning": {"rank": 0},
    "linear_probe": {"prompt_length": 0},
    "concat": {"gate": "concat"},
    "instance": {"gate": "instance"},
    "deep": {"depth": "deep"},
    "early_stopping": {"early_stopping": True},
    "train_encoder": {"train_encoder": True},
    "verbalizer": {"head": "verbalizer", "verbalizer": {"pos": "good", "neg": "bad"}},
    "random_state": {"random_state": np.random.RandomState(0)},
    "class_weight": {"class_weight": {"pos": 1.0, "neg": 2}},
    "encoder": {"encoder": "another"},
}
PLACES = {"zip": "clf.zip", "folder": "clf"}
NOT_CARRIED = {"_network", "_trainer"}


def assert_same(loaded, clf):
    """Parameters, attributes and weights are those that were saved."""
    assert_same_state(loaded, clf)
    assert design_of(loaded) == design_of(clf)
    if isinstance(clf.random_state, np.random.RandomState):
        assert loaded.random_state.randint(1 << 30) == clf.random_state.randint(1 << 30)
    for name in vars(clf).keys() - NOT_CARRIED - {"random_state"}:
        one, other = getattr(clf, name), getattr(loaded, name)
        assert type(one) is type(other), name
        np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.fixture(scope="module")
def another_folder(tmp_path_factory):
    """A folder with a tiny model whose weights differ."""
    return tiny.save(tmp_path_factory.mktemp("another"), seed=1)


@pytest.fixture(scope="module")
def stored(tiny_folder, reviews):
    """A fitted classifier on a folder; tests do not change it."""
    return LoPAClassifier(tiny_folder, **SMALL).fit(*reviews)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_loads_as_it_was_saved(
    tiny_folder, another_folder, reviews, tmp_path, kind, place
):
    options = SMALL | KINDS[kind]
    if kind == "encoder":
        options["encoder"] = another_folder
    clf = LoPAClassifier(tiny_folder, **options).fit(*reviews)
    assert clf.save(tmp_path / place) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = sklopa.load(tmp_path / place)
    assert_same(loaded, clf)
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    np.testing.assert_array_equal(loaded.predict(TEXTS), clf.predict(TEXTS))


LABELS = {
    "strings": np.array(["a", "b"]),
    "objects": np.array(["a", "b"], dtype=object),
    "integers": np.array([3, 7]),
    "small_integers": np.array([3, 7], dtype=np.int8),
    "booleans": np.array([False, True]),
    "floats": np.array([0.0, 1.0]),
    "days": np.array(["2024-01-01", "2024-01-02"], dtype="datetime64[D]"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_come_back_with_their_type(tiny_folder, reviews, tmp_path, kind):
    clf = LoPAClassifier(tiny_folder, **SMALL).fit(reviews[0], LABELS[kind].repeat(12))
    clf.save(tmp_path / "clf.zip")
    loaded = sklopa.load(tmp_path / "clf.zip")
    assert loaded.classes_.dtype == clf.classes_.dtype
    assert [type(label) for label in loaded.classes_] == [type(label) for label in clf.classes_]
    np.testing.assert_array_equal(loaded.predict(TEXTS), clf.predict(TEXTS))


PLAIN = [
    None, True, 3, -0.0, float("inf"), "\ud800", b"\x00", ("a", 1), [1, (2,)], {"a": {1: None}},
    {"$array": 3}, np.float32(0.1), np.int64(3), Path("a"), datetime.date(2024, 1, 2),
    datetime.datetime(2024, 1, 2, 3, 4), Backbone("org/model", dtype="bfloat16"),
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN, ids=named)
def test_plain_values_come_back_as_they_were(value):
    from sklopa._storage.values import pack, unpack

    back = unpack(json.loads(json.dumps(pack(value, {}))), {})
    assert type(back) is type(value)
    assert back == value


def test_several_labels_a_row_and_pairs_load_as_they_were_saved(tiny_folder, pairs, tmp_path):
    rows, labels = pairs
    clf = LoPAClassifier(tiny_folder, **SMALL).fit(rows, [{label, "text"} for label in labels])
    clf.save(tmp_path / "clf")
    loaded = sklopa.load(tmp_path / "clf")
    np.testing.assert_array_equal(loaded.predict(rows), clf.predict(rows))
    assert loaded.n_features_in_ == 2


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_generator_loads_as_it_was_saved(tmp_path, place):
    model = LoPAGenerator(
        tiny.save(tmp_path / "gpt2", "gpt2"), **SMALL, max_new_tokens=6, stop=["no"]
    ).fit(["good", "bad"] * 4, ["red film", "blue book"] * 4)
    model.save(tmp_path / place)
    loaded = sklopa.load(tmp_path / place)
    assert_same(loaded, model)
    np.testing.assert_array_equal(loaded.predict(["good", "a"]), model.predict(["good", "a"]))


@pytest.mark.parametrize("with_backbone", [False, True])
def test_a_regressor_loads_as_it_was_saved(tiny_folder, reviews, tmp_path, with_backbone):
    y = np.random.default_rng(0).normal(5, 3, size=(len(reviews[0]), 2))
    model = LoPARegressor(tiny_folder, **SMALL).fit(reviews[0], y)
    model.save(tmp_path / "reg", include_backbone=with_backbone)
    loaded = sklopa.load(tmp_path / "reg")
    assert_same_state(loaded, model)
    # Sums of the last bits depend on where weights lie in memory.
    np.testing.assert_allclose(loaded.predict(TEXTS), model.predict(TEXTS), rtol=1e-5)


@pytest.mark.parametrize("with_backbone", [False, True])
def test_an_image_classifier_loads_as_it_was_saved(tmp_path, with_backbone):
    images, labels = tiny_vision.images()
    model = LoPAImageClassifier(tiny_vision.save(tmp_path / "vit"), **SMALL).fit(images, labels)
    model.save(tmp_path / "img", include_backbone=with_backbone)
    loaded = sklopa.load(tmp_path / "img")
    assert_same_state(loaded, model)
    expected = model.predict_proba(images)
    np.testing.assert_allclose(loaded.predict_proba(images), expected, rtol=0, atol=1e-5)


def test_a_loaded_estimator_trains_on_as_the_saved_one(tiny_folder, reviews, tmp_path):
    clf = LoPAClassifier(tiny_folder, **SMALL, warm_start=True).fit(*reviews)
    clf.save(tmp_path / "clf.zip")
    loaded = sklopa.load(tmp_path / "clf.zip")
    assert_same_state(loaded.fit(*reviews), clf.fit(*reviews))
    assert loaded.n_iter_ == 4


def test_with_its_backbone_it_loads_where_no_model_is(reviews, tmp_path):
    folder = tiny.save(tmp_path / "model")
    clf = LoPAClassifier(folder, **SMALL, encoder=Backbone(folder, dtype="bfloat16"))
    expected = clf.fit(*reviews).predict_proba(TEXTS)
    clf.save(tmp_path / "clf", include_backbone=True)
    Backbone.release_all()
    shutil.rmtree(folder)
    shutil.move(tmp_path / "clf", tmp_path / "moved")
    loaded = sklopa.load(tmp_path / "moved")
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), expected, rtol=0, atol=1e-6)
    assert str(tmp_path / "moved") in loaded.model.model
    loaded.fit(*reviews)  # from the same folder


@pytest.mark.parametrize("model_type", ["gpt2", "roberta", "t5"])
def test_models_of_other_families_go_into_the_folder_too(reviews, tmp_path, model_type):
    clf = LoPAClassifier(tiny.backbone(model_type), **SMALL).fit(*reviews)
    clf.save(tmp_path / "clf", include_backbone=True)
    loaded = sklopa.load(tmp_path / "clf")
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), clf.predict_proba(TEXTS), atol=1e-6)


def test_a_backbone_in_a_zip_file_is_refused_with_the_remedy(stored, tmp_path):
    with raises(ValueError, "include_backbone=True", "folder", "clf.zip"):
        stored.save(tmp_path / "clf.zip", include_backbone=True)


def test_live_objects_are_given_again(fitted, tmp_path):
    fitted.save(tmp_path / "clf")
    with raises(ValueError, "<live bert>", "from_objects", "include_backbone=True"):
        sklopa.load(tmp_path / "clf")
    loaded = sklopa.load(tmp_path / "clf", backbone=fitted.model)
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), fitted.predict_proba(TEXTS))
    assert loaded.model is fitted.model


def test_the_archive_is_small_and_names_no_folder_of_this_machine(tiny_folder, reviews, tmp_path):
    clf = LoPAClassifier(tiny_folder, **SMALL, memory=str(tmp_path / "cache")).fit(*reviews)
    clf.save(tmp_path / "clf.zip")
    data = (tmp_path / "clf.zip").read_bytes()
    assert len(data) < 2 * 4 * clf.n_trainable_parameters_ + 100_000
    assert str(tmp_path / "cache").encode() not in data
    assert sklopa.load(tmp_path / "clf.zip").memory is None


def test_the_manifest_tells_versions_models_and_history(stored, tmp_path):
    stored.save(tmp_path / "clf")
    manifest = json.loads((tmp_path / "clf" / "manifest.json").read_text())
    assert manifest["versions"].keys() == {"sklopa", "scikit-learn", "torch", "transformers"}
    assert manifest["models_used"]["backbone"].keys() >= {"revision", "weights", "vocabulary"}
    assert len(manifest["attributes"]["history_"]) == 2


# ---------------------------------------------------------------- what differs


def test_another_model_in_the_same_place_is_told(reviews, tmp_path):
    folder = tiny.save(tmp_path / "model")
    LoPAClassifier(folder, **SMALL).fit(*reviews).save(tmp_path / "clf.zip")
    Backbone.release_all()
    tiny.save(tmp_path / "model", seed=5)
    with raises(ValueError, "backbone is not the one", "other weights", "load(path, backbone="):
        sklopa.load(tmp_path / "clf.zip")
    tiny.save(tmp_path / "model", hidden_size=16)
    Backbone.release_all()
    with raises(ValueError, "other shapes and configuration and weights"):
        sklopa.load(tmp_path / "clf.zip")


def test_another_precision_is_a_warning_and_close(stored, tiny_folder, tmp_path):
    stored.save(tmp_path / "clf.zip")
    with pytest.warns(ArchiveWarning, match=r"float32 at fit and is in bfloat16"):
        loaded = sklopa.load(tmp_path / "clf.zip", backbone=Backbone(tiny_folder, dtype="bfloat16"))
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), stored.predict_proba(TEXTS), atol=0.05)


def reseal(folder, **changes):
    """Change a manifest and the hash of itself, as a forger would."""
    path = folder / "manifest.json"
    path.write_bytes(files.seal(json.loads(path.read_text()) | changes))


def test_other_versions_are_named_in_one_warning(stored, tmp_path):
    stored.save(tmp_path / "clf")
    manifest = json.loads((tmp_path / "clf" / "manifest.json").read_text())
    reseal(tmp_path / "clf", versions=manifest["versions"] | {"torch": "1.0", "sklopa": "0.0.1"})
    with pytest.warns(ArchiveWarning, match=r"sklopa 0\.0\.1 \(here .*torch 1\.0 \(here") as told:
        sklopa.load(tmp_path / "clf")
    assert len(told) == 1


def test_a_newer_format_is_told(stored, tmp_path):
    stored.save(tmp_path / "clf")
    reseal(tmp_path / "clf", format=99)
    with raises(ValueError, "format 99", "reads format 1"):
        sklopa.load(tmp_path / "clf")


# ---------------------------------------------------------------- what cannot be saved or found


def test_saving_before_fit_says_that_fit_comes_first(make_classifier, tmp_path):
    with raises(NotFittedError, "LoPAClassifier", "fit"):
        make_classifier().save(tmp_path / "clf.zip")


def test_a_label_that_only_a_pickle_could_hold_is_named(tiny_folder, reviews, tmp_path):
    clf = LoPAClassifier(tiny_folder, **SMALL).fit(*reviews)
    clf.classes_ = np.array([1j, object()], dtype=object)
    with raises(ValueError, "attribute classes_", "1j", "without a pickle", "joblib"):
        clf.save(tmp_path / "clf.zip")
    assert not (tmp_path / "clf.zip").exists()


@pytest.mark.parametrize("path", ["nothing.zip", "nothing", "a/b/c"])
def test_a_path_where_nothing_is_is_named(tmp_path, path):
    with raises(OSError, path, "no archive"):
        sklopa.load(tmp_path / path)


def test_a_folder_of_other_files_is_left_alone(stored, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with raises(OSError, "precious.txt", "nothing was written"):
        stored.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_saving_again_replaces_what_was_there_and_nothing_remains(stored, fitted, tmp_path):
    for place in PLACES.values():
        stored.save(tmp_path / place)
        other = make_pipeline(stored)[-1].__sklearn_clone__().set_params(max_iter=1)
        other.fit(["good", "bad"] * 4, ["pos", "neg"] * 4).save(tmp_path / place)
        assert_same_state(sklopa.load(tmp_path / place), other)
    assert len(list((tmp_path / "clf").iterdir())) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clf", "clf.zip"]


def test_the_zip_file_holds_json_and_safetensors_alone(stored, tmp_path):
    stored.save(tmp_path / "clf.zip")
    names = zipfile.ZipFile(tmp_path / "clf.zip").namelist()
    assert sorted(name.split(".")[-1] for name in names) == ["json", "safetensors"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda folder: edit(folder / "config.json", hidden_act="relu"), "configuration"),
        (lambda folder: edit(folder / "config.json", layer_norm_eps=1e-3), "configuration"),
        (lambda folder: lower_case(folder, False), "reader"),
    ],
)
def test_a_model_that_reads_or_computes_otherwise_is_another_model(
    tmp_path, reviews, change, named
):
    folder = tmp_path / "model"
    tiny.save(folder)
    clf = LoPAClassifier(str(folder), **SMALL).fit(*reviews)
    clf.save(tmp_path / "clf.zip")
    change(folder)
    Backbone.release_all()
    with pytest.raises(InvalidArchive, match=f"other {named}"):
        sklopa.load(tmp_path / "clf.zip")


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def lower_case(folder, on):
    rules = json.loads((folder / "tokenizer.json").read_text())
    edit(folder / "tokenizer.json", normalizer=rules["normalizer"] if on else None)
