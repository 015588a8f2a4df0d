"""Rows of many tasks in shared batches: the results are those of each estimator alone."""

import numpy as np
import pytest
import tiny
from helpers import CLOSE, network_of, raises, rows_of

from sklopa import LoPAClassifier, LoPAGenerator, LoPARegressor
from sklopa._loading.live import live_model
from sklopa.serving import MultiTaskPredictor
from sklopa.serving import shared_batches as _shared_batches

OPTIONS = {"bottleneck": 8, "max_iter": 3, "batch_size": 8, "random_state": 0}


@pytest.fixture(scope="module", params=["bert", "roberta", "llama"])
def tasks(request, reviews, colours):
    """Classifiers over one model that differ in all that may differ."""
    model = tiny.backbone(request.param)
    many = [["good", "red"], ["bad"], [], ["red", "blue"], ["good"], ["bad", "blue"]] * 4
    made = {
        "lopa": LoPAClassifier(model, prompt_length=3, rank=2, **OPTIONS).fit(*reviews),
        "tuning": LoPAClassifier(model, prompt_length=7, rank=0, **OPTIONS).fit(*colours),
        "concat": LoPAClassifier(model, prompt_length=2, rank=1, gate="concat", **OPTIONS),
        "probe": LoPAClassifier(model, prompt_length=0, **OPTIONS).fit(*reviews),
        "words": LoPAClassifier(
            model, head="verbalizer", prompt_length=4, rank=1,
            verbalizer={"pos": "yes", "neg": "no"}, **OPTIONS,
        ).fit(*reviews),
        "numbers": LoPARegressor(model, prompt_length=5, rank=2, **OPTIONS),
        "several": LoPAClassifier(model, prompt_length=3, rank=1, **OPTIONS).fit(reviews[0], many),
    }  # fmt: skip
    made["concat"].fit(*colours)
    made["numbers"].fit(reviews[0], [len(text) for text in reviews[0]])
    return made


@pytest.fixture(scope="module")
def mixed(tasks, reviews, colours):
    """Rows of all tasks in random order."""
    random = np.random.RandomState(0)
    texts = random.permutation(reviews[0] + colours[0])
    return random.choice(list(tasks), size=len(texts)), texts


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_shared_batches_predict_what_each_estimator_predicts_alone(tasks, mixed, batch_size):
    names, texts = mixed
    found = MultiTaskPredictor(tasks, batch_size=batch_size).predict(names, texts)
    for name, estimator in tasks.items():
        alone = estimator.predict(texts[names == name])
        together = np.array(found[names == name].tolist())
        if alone.dtype == np.float64:
            np.testing.assert_allclose(together, alone, rtol=1e-4)
        else:
            np.testing.assert_array_equal(together, alone)


def test_outputs_are_those_of_each_network_alone(tasks, reviews):
    texts = reviews[0]
    shared = [tasks[name] for name in ("lopa", "tuning", "words")]
    parts = [(network_of(e), rows_of(e, texts)) for e in shared]
    for estimator, outputs in zip(shared, _shared_batches.run_shared(parts, None, 8), strict=True):
        np.testing.assert_allclose(outputs, estimator._outputs(texts), **CLOSE)


def test_rows_of_different_tasks_go_through_the_frozen_model_together(tasks, reviews, monkeypatch):
    frozen = live_model(tasks["lopa"].model)
    sizes, states = [], frozen.states
    monkeypatch.setattr(
        frozen, "states", lambda inputs: sizes.append(len(inputs.mask)) or states(inputs)
    )
    names = ["lopa", "tuning", "words", "concat"] * 4
    MultiTaskPredictor(tasks, batch_size=8).predict(names, reviews[0][:16])
    assert sizes == [8, 8]


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
def test_generators_share_batches_where_they_decode_alike(family, beams):
    sources = ["good film", "bad book", "the very awful plot and it was not good", "red"]
    targets = ["yes", "no", "no no maybe", "yes yes"]
    options = OPTIONS | {"max_new_tokens": 6, "learning_rate": 1e-2, "num_beams": beams}
    model = tiny.backbone(family)
    tasks = {
        "one": LoPAGenerator(model, prompt_length=3, rank=2, **options).fit(sources, targets),
        "two": LoPAGenerator(model, prompt_length=6, rank=0, **options).fit(sources, targets[::-1]),
        "short": LoPAGenerator(model, prompt_length=2, rank=1, **options | {"max_new_tokens": 2}),
    }
    tasks["short"].fit(sources, targets)
    names = np.array(["one", "two", "short", "two"] * 4)
    texts = np.array(sources * 4, dtype=object)
    texts = np.concatenate([texts[1:], texts[:1]])
    found = MultiTaskPredictor(tasks).predict(names, texts)
    for name, estimator in tasks.items():
        assert found[names == name].tolist() == estimator.predict(texts[names == name]).tolist()


def test_one_name_stands_for_all_rows_and_pairs_are_read(pairs):
    X, y = pairs
    clf = LoPAClassifier(tiny.backbone(), prompt_length=2, rank=1, **OPTIONS).fit(X, y)
    assert MultiTaskPredictor({"same": clf}).predict("same", X).tolist() == clf.predict(X).tolist()


def test_what_cannot_share_a_batch_is_refused_by_name(fitted, reviews, tiny_folder):
    other = LoPAClassifier(tiny_folder, prompt_length=2, rank=0, **OPTIONS).fit(*reviews)
    with raises(ValueError, "must share one frozen model", "'a'", "'b'", tiny_folder):
        MultiTaskPredictor({"a": fitted, "b": other})
    deep = LoPAClassifier(tiny.backbone(), prompt_length=2, depth="deep", rank=0, **OPTIONS)
    with raises(ValueError, "'b'", "depth='shallow'"):
        MultiTaskPredictor({"a": fitted, "b": deep.fit(*reviews)})
    drawing = LoPAGenerator(tiny.backbone("llama"), prompt_length=0, max_iter=1, do_sample=True)
    with raises(ValueError, "'a'", "do_sample=False"):
        MultiTaskPredictor({"a": drawing.fit(["red"], ["blue"])})
    with raises(ValueError, "estimators is empty"):
        MultiTaskPredictor({})
    with raises(ValueError, "batch_size must be", "got 0"):
        MultiTaskPredictor({"a": fitted}, batch_size=0)
    with raises(ValueError, "not fitted"):
        MultiTaskPredictor({"a": LoPAClassifier(tiny.backbone())})


def test_bad_rows_are_named(fitted):
    tasks = MultiTaskPredictor({"mood": fitted})
    with raises(ValueError, "row 1 is 'topic'", "'mood'"):
        tasks.predict(["mood", "topic"], ["a film", "a book"])
    with raises(ValueError, "X has 2 rows and task_names has 1"):
        tasks.predict(["mood"], ["a film", "a book"])
    with raises(TypeError, "X must be"):
        tasks.predict("mood", "a film")
