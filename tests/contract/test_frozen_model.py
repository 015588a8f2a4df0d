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
from sklopa.errors import ArchiveWarning, InvalidParameter, UnsupportedBackbone

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


def test_a_tokenizer_with_more_tokens_than_rows_is_refused():
    model, reader = tiny.model("bert", seed=8)
    reader = copy.deepcopy(reader)
    reader.add_tokens([f"new{i}" for i in range(50)])
    with pytest.raises(UnsupportedBackbone, match="resize_token_embeddings"):
        classifier(Backbone.from_objects(model, reader)).fit(TEXTS, LABELS)


def test_a_token_that_is_added_without_a_row_is_refused_at_predict():
    model, reader = tiny.model("bert", seed=9)
    reader = copy.deepcopy(reader)
    clf = classifier(Backbone.from_objects(model, reader)).fit(TEXTS, LABELS)
    reader.add_tokens(["sparkling"])
    with pytest.raises(UnsupportedBackbone, match="sparkling"):
        clf.predict(["sparkling film"])


class Wrapped:
    """What peft makes of a model."""

    config = peft_config = None

    def get_base_model(self):
        """The model within."""

    def get_input_embeddings(self):
        """Those of the model within."""


class Sentences:
    """A SentenceTransformer, as far as it is asked."""

    tokenizer = None

    def encode(self):
        """Embeddings."""


@pytest.mark.parametrize(("which", "text"), [
    ("none", "got None as the model"),
    ("no reader", "got None as what reads"),
    ("swapped", "The model comes first"),
    ("peft", "merge_and_unload"),
    ("sentences", "auto_model"),
])  # fmt: skip
def test_objects_that_are_no_model_are_refused_by_name(which, text):
    model, reader = tiny.model("bert")
    objects = {
        "none": (None, reader), "no reader": (model, None), "swapped": (reader, model),
        "peft": (Wrapped(), reader), "sentences": (Sentences(), reader),
    }[which]  # fmt: skip
    with pytest.raises(InvalidParameter, match=text):
        Backbone.from_objects(*objects)


def test_a_model_as_parameter_is_told_how_to_be_wrapped():
    model, _ = tiny.model("bert")
    with pytest.raises(InvalidParameter, match="from_objects") as caught:
        classifier(model).fit(TEXTS, LABELS)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("options", [{"dtype": "bf16"}, {"device": "gpu"}, {"device": "cuda:97"}])
def test_an_option_of_a_backbone_that_is_none_is_named(tmp_path, options):
    (name,) = options
    with pytest.raises(InvalidParameter, match=f"Backbone: parameter {name}") as caught:
        classifier(Backbone(tiny.save(tmp_path), **options)).fit(TEXTS, LABELS)
    assert "install" not in str(caught.value)


def test_weights_that_are_not_finite_predict_nothing():
    def spoil(model):
        with torch.no_grad():
            next(model.parameters()).fill_(float("nan"))

    model, reader = tiny.model("bert", seed=10)
    clf = classifier(Backbone.from_objects(model, reader)).fit(TEXTS, LABELS)
    regressor = LoPARegressor(clf.model, **SMALL).fit(TEXTS, np.arange(16.0))
    spoil(model)
    for predict in (clf.predict, clf.predict_proba, clf.transform, regressor.predict):
        with pytest.raises(UnsupportedBackbone, match="not finite"):
            predict(TEXTS)
    model, reader = tiny.model("gpt2", seed=10)
    writer = LoPAGenerator(Backbone.from_objects(model, reader), **SMALL, max_new_tokens=3)
    writer.fit(TEXTS, TEXTS)
    spoil(model)
    for call in (writer.predict, lambda X: writer.log_likelihood(X, X)):
        with pytest.raises(UnsupportedBackbone, match="not finite"):
            call(TEXTS)


def test_a_file_cannot_ask_for_attention_that_is_fetched(tmp_path):
    import json

    from sklopa._loading.live import live_model

    tiny.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
        (tmp_path / "config.json").write_text(json.dumps(config | {name: "somebody/kernels"}))
        forget()
        frozen = live_model(Backbone(tmp_path))
        assert frozen.config._attn_implementation in ("sdpa", "eager")


def test_ablate_asks_for_two_rows():
    from sklopa.errors import InvalidInput

    clf = classifier(tiny.backbone()).fit(TEXTS, LABELS)
    with pytest.raises(InvalidInput, match="1 row"):
        clf.ablate(TEXTS[:1], LABELS[:1])
