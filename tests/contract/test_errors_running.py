"""Rows of the table of errors that are about what happens under way."""

import numpy as np
import pytest
import tiny
import torch
from helpers import raises, weights_of
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from sklopa import Backbone
from sklopa._backbone.language import FrozenLanguageModel
from sklopa._training.loop import Trainer
from sklopa.errors import BatchSizeWarning, SklopaError

TEXTS = ["good film", "bad film", "fine film"]
LABELS = ["a", "b", "a"]

# ---------------------------------------------------------------- not fitted


@pytest.mark.parametrize(
    "method",
    ["predict", "predict_proba", "predict_log_proba", "decision_function", "transform",
     "generate_prompts"],
)  # fmt: skip
def test_methods_before_fit_say_that_fit_comes_first(make_classifier, method):
    with raises(NotFittedError, "LoPAClassifier", "fit") as caught:
        getattr(make_classifier(), method)(TEXTS)
    assert isinstance(caught.value, (ValueError, AttributeError))


def test_score_and_feature_names_before_fit_say_that_fit_comes_first(make_classifier):
    with pytest.raises(NotFittedError):
        make_classifier().score(TEXTS, LABELS)
    with pytest.raises(NotFittedError):
        make_classifier().get_feature_names_out()
    with pytest.raises(NotFittedError):
        check_is_fitted(make_classifier())


def test_check_is_fitted_accepts_a_fitted_one(fitted):
    check_is_fitted(fitted)


# ---------------------------------------------------------------- training that fails


def diverge(monkeypatch, in_epoch):
    """Let the loss be NaN in some epoch."""
    epoch, n = Trainer.epoch, iter(range(1, 100))

    def run(self, *args, **kwargs):
        loss = epoch(self, *args, **kwargs)
        return float("nan") if next(n) == in_epoch else loss

    monkeypatch.setattr(Trainer, "epoch", run)


def test_a_loss_that_is_not_finite_restores_the_state_before(monkeypatch, make_classifier):
    states, keep = [], Trainer._keep

    def watch(self, *args):
        states.append({k: v.clone().numpy() for k, v in self.network.state_dict().items()})
        return keep(self, *args)

    monkeypatch.setattr(Trainer, "_keep", watch)
    diverge(monkeypatch, in_epoch=3)
    clf = make_classifier(max_iter=5)
    with raises(ValueError, "not finite in epoch 3", "learning_rate", "0.001", "keeps the state"):
        clf.fit(TEXTS, LABELS)
    assert clf.n_iter_ == 2
    assert len(states) == 2
    for name, value in weights_of(clf).items():
        np.testing.assert_array_equal(value, states[-1][name])
    assert np.isfinite(clf.decision_function(TEXTS)).all()


def test_a_loss_that_is_not_finite_at_once_leaves_the_estimator_unfitted(
    monkeypatch, make_classifier
):
    clf = make_classifier()
    diverge(monkeypatch, in_epoch=1)
    with raises(ValueError, "not finite in epoch 1", "not fitted"):
        clf.fit(TEXTS, LABELS)
    with pytest.raises(NotFittedError):
        clf.predict(TEXTS)


def test_a_refit_that_fails_at_once_leaves_the_estimator_as_it_was(monkeypatch, make_classifier):
    clf = make_classifier().fit(TEXTS, LABELS)
    before, state = clf.predict_proba(TEXTS), clf.__getstate__()
    diverge(monkeypatch, in_epoch=1)
    with raises(ValueError, "not finite in epoch 1", "as before"):
        clf.fit([(text, text) for text in TEXTS], LABELS)
    with raises(ValueError, "missing"):
        clf.fit(TEXTS, [None] * len(TEXTS))
    assert clf.__getstate__().keys() == state.keys()
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), before)


def test_a_loss_that_overflows_is_a_failed_fit(make_classifier):
    clf = make_classifier(learning_rate=1e36, max_iter=5)
    with raises(ValueError, "not finite", "1e+36"):
        clf.fit(TEXTS * 8, LABELS * 8)


def test_a_backbone_that_returns_nan_is_a_failed_fit(make_classifier):
    model, tokenizer = tiny.model("bert")
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(float("nan"))
    clf = make_classifier(model=Backbone.from_objects(model, tokenizer))
    with raises(ValueError, "finite"):
        clf.fit(TEXTS, LABELS)
    with pytest.raises(NotFittedError):
        clf.predict(TEXTS)


def test_a_diverged_partial_fit_keeps_the_state_before(monkeypatch, make_classifier):
    clf = make_classifier().fit(TEXTS, LABELS)
    before = clf.decision_function(TEXTS)
    diverge(monkeypatch, in_epoch=1)
    with raises(ValueError, "not finite"):
        clf.partial_fit(TEXTS, LABELS)
    np.testing.assert_array_equal(clf.decision_function(TEXTS), before)


# ---------------------------------------------------------------- out of memory


def limit_memory(monkeypatch, n_rows):
    """Let the backbone run out of memory beyond `n_rows` rows."""
    states = FrozenLanguageModel.states

    def run(self, inputs):
        if len(inputs.embeds) > n_rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return states(self, inputs)

    monkeypatch.setattr(FrozenLanguageModel, "states", run)


@pytest.mark.parametrize("cached", [True, False], ids=["texts_known", "texts_new"])
def test_fit_that_runs_out_of_memory_goes_on_with_half_the_batch(
    monkeypatch, make_classifier, reviews, cached
):
    texts, labels = reviews
    texts = [text if cached else f"maybe {text}" for text in texts]
    clf = make_classifier(max_iter=2, dropout=0.0)
    expected = clf.fit(reviews[0], labels).decision_function(reviews[0]) if cached else None
    limit_memory(monkeypatch, 3)
    with pytest.warns(BatchSizeWarning, match="Memory ran out; going on with 2 rows at once"):
        clf.fit(texts, labels)
    assert clf.batch_size == 8
    if cached:
        np.testing.assert_allclose(clf.decision_function(texts), expected, atol=2e-3, rtol=0)


def test_predict_that_runs_out_of_memory_goes_on_with_half_the_batch(monkeypatch, fitted, reviews):
    expected = fitted.decision_function(reviews[0])
    limit_memory(monkeypatch, 5)
    with pytest.warns(BatchSizeWarning, match="batch_size=4"):
        got = fitted.decision_function(reviews[0])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", ["fit", "predict"])
def test_memory_too_small_for_one_row_is_an_error_with_sizes_and_remedies(
    monkeypatch, make_classifier, reviews, method
):
    texts, labels = reviews
    clf = make_classifier(max_iter=1).fit(texts, labels)
    limit_memory(monkeypatch, 0)
    longest = max(len(text.split()) for text in texts) + 2  # with the two special tokens
    with (
        pytest.warns(BatchSizeWarning),
        raises(
            MemoryError, "single row", f"{longest} tokens", "max_length", "backbone", "2.00 GiB"
        ),
    ):
        clf.fit(texts, labels) if method == "fit" else clf.predict(texts)


def test_other_runtime_errors_of_the_device_come_through(monkeypatch, fitted, reviews):
    def run(self, inputs):
        raise RuntimeError("device-side assert triggered")

    monkeypatch.setattr(FrozenLanguageModel, "states", run)
    with pytest.raises(RuntimeError, match="device-side assert") as caught:
        fitted.predict(reviews[0])
    assert not isinstance(caught.value, SklopaError)
