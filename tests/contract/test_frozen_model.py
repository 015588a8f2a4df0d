"""The frozen model is known by its content: in caches, in files, and after it was released."""

import copy
import gc
import os
import pickle
import warnings
import weakref

import numpy as np
import pytest
import tiny
import tiny_vision
import torch

from sklopa import (
    Backbone,
    LoPAClassifier,
    LoPAGenerator,
    LoPAImageClassifier,
    LoPARegressor,
    cache_clear,
)
from sklopa.errors import ArchiveWarning, UnsupportedBackbone

TEXTS = ["good film", "bad film", "fine book", "awful book"] * 4
LABELS = ["pos", "neg"] * 8
SMALL = {"max_iter": 1, "prompt_length": 3, "rank": 2, "bottleneck": 8, "random_state": 0}


def classifier(model, **options):
    return LoPAClassifier(model, **(SMALL | options))


def outputs(model, **options):
    return classifier(model, **options).fit(TEXTS, LABELS).predict_proba(TEXTS)


def anew(model):
    """What comes out where nothing is known yet."""
    Backbone.release_all()
    cache_clear()
    return outputs(model)


def forget():
    Backbone.release_all()
    cache_clear()


def test_other_weights_at_the_same_path_are_another_model(tmp_path):
    tiny.save(tmp_path, seed=0)
    holder = classifier(str(tmp_path)).fit(TEXTS, LABELS)  # who goes on with the old ones
    before = holder.predict_proba(TEXTS)
    tiny.save(tmp_path, seed=1)
    Backbone.release_all()
    found = outputs(str(tmp_path))
    np.testing.assert_array_equal(found, anew(str(tmp_path)))
    np.testing.assert_array_equal(holder.predict_proba(TEXTS), before)
    assert np.abs(found - before).max() > 1e-4


def test_memory_goes_by_content_and_not_by_size_and_time(tmp_path):
    model, memory = tmp_path / "model", tmp_path / "memory"
    tiny.save(model, seed=0)
    times = {path: path.stat().st_mtime_ns for path in model.iterdir()}
    outputs(str(model), memory=memory)
    tiny.save(model, seed=1)
    for path, time in times.items():
        os.utime(path, ns=(time, time))
    forget()
    found = outputs(str(model), memory=memory)
    np.testing.assert_array_equal(found, anew(str(model)))


def test_memory_serves_a_copy_of_the_model_elsewhere(tmp_path, monkeypatch):
    from sklopa._embedding import instance

    outputs(tiny.save(tmp_path / "one"), memory=tmp_path / "memory")
    forget()
    monkeypatch.setattr(instance, "_embed_batch", None)  # would be called for texts that are new
    outputs(tiny.save(tmp_path / "two"), memory=tmp_path / "memory")


def test_a_relative_folder_is_the_one_that_was_there_when_it_was_named(tmp_path, monkeypatch):
    expected = {}
    for i, name in enumerate(("one", "two")):
        tiny.save(tmp_path / name / "model", seed=i)
        monkeypatch.chdir(tmp_path / name)
        expected[name] = anew("model")
    monkeypatch.chdir(tmp_path / "one")
    clf = classifier("model").fit(TEXTS, LABELS)
    monkeypatch.chdir(tmp_path / "two")
    np.testing.assert_array_equal(outputs("model"), expected["two"])
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), expected["one"])


@pytest.mark.parametrize("through", ["values", "data", "storage"])
def test_a_live_model_that_is_changed_after_fit_is_read_anew(through):
    model, reader = tiny.model("bert", seed=3)
    clf = classifier(Backbone.from_objects(model, reader)).fit(TEXTS, LABELS)
    before = clf.predict_proba(TEXTS)
    with torch.no_grad():
        for parameter in model.parameters():
            if through == "values":
                parameter.mul_(1.5)
            elif through == "data":
                parameter.data.mul_(1.5)
            else:
                parameter.data = parameter.data * 1.5
    after = clf.predict_proba(TEXTS)
    cache_clear()
    np.testing.assert_array_equal(after, clf.predict_proba(TEXTS))
    assert np.abs(after - before).max() > 1e-4


def test_tokens_that_are_added_after_fit_are_read(reviews):
    model, reader = tiny.model("bert", seed=4)
    reader = copy.deepcopy(reader)
    clf = classifier(Backbone.from_objects(model, reader)).fit(TEXTS, LABELS)
    before = clf.predict_proba(["sparkling film"])
    reader.add_tokens(["sparkling"])
    model.resize_token_embeddings(len(reader))
    assert np.abs(clf.predict_proba(["sparkling film"]) - before).max() > 0


def test_caches_hold_no_model():
    def use(seed):
        model, reader = tiny.model("bert", seed=seed)
        clf = classifier(Backbone.from_objects(model, reader)).fit(TEXTS, LABELS)
        clf.predict(TEXTS)
        return weakref.ref(model)

    models = [use(seed) for seed in range(20, 24)]
    Backbone.release_all()
    gc.collect()
    assert not [model for model in models if model() is not None]


def test_many_predictions_of_one_row_leave_few_files(tmp_path):
    from sklopa._cache import disk

    clf = classifier(tiny.save(tmp_path / "model"), memory=tmp_path / "memory").fit(TEXTS, LABELS)
    for i in range(3 * disk._MOST_SMALL_FILES):
        clf.predict([f"good {i}"])
    files = [*(tmp_path / "memory").rglob("*.npz")]
    assert len(files) <= 2 * disk._MOST_SMALL_FILES
    expected = clf.predict_proba(["good 5", "good 150"])
    forget()
    np.testing.assert_array_equal(clf.predict_proba(["good 5", "good 150"]), expected)


# ---------------------------------------------------------------- found as it was


@pytest.mark.parametrize("training", [True, False])
def test_a_live_model_is_left_as_it_was_found(training):
    model, reader = tiny.model("bert", seed=5)
    model.train(training)
    model.get_input_embeddings().requires_grad_(False)
    modes = [module.training for module in model.modules()]
    asked = [parameter.requires_grad for parameter in model.parameters()]
    clf = classifier(Backbone.from_objects(model, reader), early_stopping=True)
    clf.fit(TEXTS, LABELS).predict(TEXTS)
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == asked
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_live_model_in_training_mode_predicts_alike():
    model, reader = tiny.model("bert", seed=6)
    clf = classifier(Backbone.from_objects(model, reader)).fit(TEXTS, LABELS)
    expected = clf.predict_proba(TEXTS)
    model.train()
    cache_clear()
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), expected)
    assert model.training


# ---------------------------------------------------------------- pickles know it


def all_four(folder):
    """A fitted estimator of each kind on models in folders, with rows for it."""
    texts = tiny.save(folder / "bert")
    images, sides = tiny_vision.images()
    return {
        "classifier": (classifier(texts).fit(TEXTS, LABELS), TEXTS[:3]),
        "regressor": (LoPARegressor(texts, **SMALL).fit(TEXTS, np.arange(16.0)), TEXTS[:3]),
        "generator": (
            LoPAGenerator(tiny.save(folder / "gpt2", "gpt2"), **SMALL, max_new_tokens=3)
            .fit(TEXTS, TEXTS), TEXTS[:3]
        ),
        "images": (
            LoPAImageClassifier(tiny_vision.save(folder / "vit"), **SMALL).fit(images, sides),
            images[:3],
        ),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["classifier", "regressor", "generator", "images"])
def test_a_pickle_warns_of_another_model(tmp_path, kind):
    estimator, rows = all_four(tmp_path)[kind]
    data = pickle.dumps(estimator)
    forget()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ArchiveWarning)
        same = pickle.loads(data)
        same.predict(rows)
    save = tiny_vision.save if kind == "images" else tiny.save
    save(estimator.model, {"generator": "gpt2", "images": "vit"}.get(kind, "bert"), seed=1)
    forget()
    again = pickle.loads(pickle.dumps(pickle.loads(data)))  # through a second pickle, unused
    with pytest.warns(ArchiveWarning, match="is not the one that the estimator was fitted on"):
        again.predict(rows)


def test_a_stored_identity_is_plain(tmp_path):
    from sklopa.errors import InvalidArchive

    clf = classifier(tiny.save(tmp_path)).fit(TEXTS, LABELS)
    state = clf.__getstate__()
    for forged in (3, {"backbone": 3}, {"backbone": {"weights": object()}}, {3: {}}):
        with pytest.raises(InvalidArchive):
            LoPAClassifier.__new__(LoPAClassifier).__setstate__(state | {"_models": forged})


# ---------------------------------------------------------------- what cannot be one


def test_weights_of_inference_mode_are_refused():
    with torch.inference_mode():
        model, reader = tiny.model("bert", seed=7)
    with pytest.raises(UnsupportedBackbone, match="inference_mode"):
        classifier(Backbone.from_objects(model, reader)).fit(TEXTS, LABELS)
