"""What y may be: any labels, several a row, with weights; and the probabilities of them."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
from helpers import CLOSE, COLOURS, assert_same_state
from sklearn.model_selection import GridSearchCV
from sklearn.utils.class_weight import compute_class_weight

# ---------------------------------------------------------------- labels and probabilities


@pytest.mark.parametrize(
    "labels",
    [
        ["neg", "pos"], [7, -2], [True, False], [0.0, 1.0], np.array(["b", "a"], dtype=object),
        np.array([3, 200], dtype=np.uint8), np.array([2**63, 1], dtype=np.uint64),
    ],
    ids=["str", "int", "bool", "float", "object", "uint8", "uint64"],
)  # fmt: skip
def test_labels_of_any_kind_come_back_as_they_were(make_classifier, reviews, labels):
    texts, words = reviews
    y = np.asarray(labels)[[int(word == "pos") for word in words]]
    clf = make_classifier(max_iter=1).fit(texts, y)
    predicted = clf.predict(texts)
    np.testing.assert_array_equal(clf.classes_, np.unique(y))
    assert predicted.dtype == clf.classes_.dtype == y.dtype
    assert predicted.shape == (len(texts),)
    assert (predicted == y).mean() > 0.6


@pytest.mark.parametrize(
    "labels_as",
    [
        list, tuple, np.array, pd.Series, pl.Series, pa.array,
        lambda y: np.array(y, dtype=np.dtypes.StringDType()),
        lambda y: pd.Series(y, dtype="string"),
        lambda y: pd.Series(y, dtype=pd.ArrowDtype(pa.string())),
    ],
    ids=[
        "list", "tuple", "array", "pandas", "polars", "arrow", "string_dtype", "nullable",
        "pandas_arrow",
    ],
)  # fmt: skip
def test_labels_may_come_in_any_container(make_classifier, reviews, labels_as):
    texts, labels = reviews
    clf = make_classifier(max_iter=1).fit(texts, labels_as(labels))
    assert clf.classes_.tolist() == ["neg", "pos"]
    assert (
        clf.predict(texts).tolist()
        == make_classifier(max_iter=1).fit(*reviews).predict(texts).tolist()
    )


@pytest.mark.parametrize("labels", [(7, -2), (True, False), (np.int64(3), 4)], ids=str)
def test_numbers_and_truth_values_among_objects_are_labels_like_others(
    make_classifier, reviews, labels
):
    texts, words = reviews
    y = np.array([labels[word == "pos"] for word in words], dtype=object)
    clf = make_classifier(max_iter=1).fit(texts, y)
    plain = make_classifier(max_iter=1).fit(texts, np.array(y.tolist()))
    assert clf.classes_.dtype == plain.classes_.dtype
    np.testing.assert_array_equal(clf.predict(texts), plain.predict(texts))
    assert clf.score(texts, y.tolist()) == plain.score(texts, y.tolist())


def test_predict_is_the_class_of_the_largest_probability(fitted, fitted3, reviews, colours):
    for clf, (texts, _) in ((fitted, reviews), (fitted3, colours)):
        probabilities = clf.predict_proba(texts)
        assert probabilities.shape == (len(texts), len(clf.classes_))
        np.testing.assert_array_equal(
            clf.classes_[probabilities.argmax(axis=1)], clf.predict(texts)
        )
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=0, atol=1e-12)
        np.testing.assert_allclose(np.exp(clf.predict_log_proba(texts)), probabilities, rtol=1e-9)


def test_decision_function_orders_as_the_probabilities_do(fitted, fitted3, reviews, colours):
    binary = fitted.decision_function(reviews[0])
    assert binary.shape == (len(reviews[0]),)
    np.testing.assert_array_equal(
        fitted.classes_[(binary > 0).astype(int)], fitted.predict(reviews[0])
    )
    many = fitted3.decision_function(colours[0])
    assert many.shape == (len(colours[0]), 3)
    np.testing.assert_array_equal(
        fitted3.classes_[many.argmax(axis=1)], fitted3.predict(colours[0])
    )


def test_score_is_the_accuracy(fitted3, colours):
    texts, labels = colours
    assert fitted3.score(texts, labels) == np.mean(fitted3.predict(texts) == np.array(labels))
    weights = np.arange(len(texts))
    right = fitted3.predict(texts) == np.array(labels)
    assert fitted3.score(texts, labels, sample_weight=weights) == pytest.approx(
        np.average(right, weights=weights)
    )


def test_it_learns_what_one_word_says(make_classifier, reviews):
    clf = make_classifier(max_iter=25, dropout=0.0, learning_rate=1e-2).fit(*reviews)
    assert clf.score(*reviews) > 0.95
    assert clf.loss_curve_[-1] < 0.8 * clf.loss_curve_[0]


# ---------------------------------------------------------------- weights of rows and classes


@pytest.mark.parametrize("weight", [None, "balanced"])
def test_a_row_of_weight_zero_is_a_row_left_out(make_classifier, colours, weight):
    texts, labels = colours
    clf = make_classifier(class_weight=weight).fit(
        [*texts, "green", "green book"], [*labels, "red", "blue"], [1.0] * len(texts) + [0.0, 0.0]
    )
    assert_same_state(clf, make_classifier(class_weight=weight).fit(texts, labels))


def test_a_class_whose_rows_all_weigh_zero_is_kept_as_a_class(make_classifier, colours):
    texts, labels = colours
    weights = [float(label != "blue") for label in labels]
    clf = make_classifier().fit(texts, labels, weights)
    assert clf.classes_.tolist() == sorted(COLOURS)
    assert "blue" not in clf.predict(texts)


def test_rows_of_more_weight_pull_the_predictions_to_their_class(make_classifier, colours):
    texts, labels = colours
    weights = [20.0 if label == "blue" else 1.0 for label in labels]
    plain = make_classifier().fit(texts, labels).predict_proba(texts)
    pulled = make_classifier().fit(texts, labels, sample_weight=weights).predict_proba(texts)
    blue = sorted(COLOURS).index("blue")
    assert (pulled[:, blue] > plain[:, blue] + 0.1).all()


def test_class_weight_is_sample_weight_by_class(make_classifier, reviews):
    texts, labels = reviews[0][:-8], np.array(reviews[1][:-8])
    labels[:6] = "pos"
    classes = np.unique(labels)
    balanced = compute_class_weight("balanced", classes=classes, y=labels)
    by_class = dict(zip(classes, balanced, strict=True))
    fits = [
        make_classifier(class_weight="balanced").fit(texts, labels),
        make_classifier(class_weight=by_class).fit(texts, labels),
        make_classifier().fit(texts, labels, [by_class[label] for label in labels]),
    ]
    logits = fits[0].decision_function(texts)
    for clf in fits[1:]:
        np.testing.assert_allclose(clf.decision_function(texts), logits, **CLOSE)
    plain = make_classifier().fit(texts, labels).decision_function(texts)
    assert np.abs(plain - logits).max() > 1e-3


def test_balanced_classes_count_a_row_of_weight_three_as_three_rows(make_classifier, colours):
    texts, labels = colours
    weights = [3.0 if i < 6 else 1.0 for i in range(len(texts))]
    weighted = make_classifier(class_weight="balanced", dropout=0.0).fit(texts, labels, weights)
    counts = {c: sum(w for w, x in zip(weights, labels, strict=True) if x == c) for c in COLOURS}
    by_class = {c: sum(weights) / (3 * counts[c]) for c in COLOURS}
    told = make_classifier(class_weight=by_class, dropout=0.0).fit(texts, labels, weights)
    logits = told.decision_function(texts)
    np.testing.assert_allclose(weighted.decision_function(texts), logits, **CLOSE)


def test_weights_from_the_least_to_the_largest_train_a_model(make_classifier, colours):
    texts, labels = colours
    weights = np.geomspace(1e-12, 1e12, len(texts))
    logits = make_classifier().fit(texts, labels, weights).decision_function(texts)
    assert np.isfinite(logits).all()
    for weight in (1e-12, 1e12):
        same = make_classifier(class_weight="balanced").fit(texts, labels, [weight] * len(texts))
        assert np.isfinite(same.decision_function(texts)).all()


# ---------------------------------------------------------------- several labels a row


@pytest.fixture(scope="module")
def tags():
    """Texts with any number of colours in them."""
    sets = [{c for j, c in enumerate(COLOURS) if i >> j & 1} for i in range(8)] * 3
    frames = ["the book was {}", "a {} film", "it {}"]
    texts = [frames[i // 8].format(" and ".join(sorted(s))) for i, s in enumerate(sets)]
    return texts, sets


def test_indicator_matrix_trains_one_output_a_column(make_classifier, tags):
    texts, sets = tags
    y = np.array([[colour in s for colour in sorted(COLOURS)] for s in sets], dtype=int)
    clf = make_classifier(max_iter=10, learning_rate=5e-3).fit(texts, y)
    probabilities, predicted = clf.predict_proba(texts), clf.predict(texts)
    assert probabilities.shape == predicted.shape == y.shape
    np.testing.assert_array_equal(predicted, (probabilities > 0.5).astype(int))
    np.testing.assert_array_equal(predicted, (clf.decision_function(texts) > 0).astype(int))
    assert clf.score(texts, y) == np.mean((predicted == y).all(axis=1))
    assert (predicted == y).mean() > 0.8
    assert clf.classes_.tolist() == [0, 1, 2]


def test_label_sets_and_indicators_train_the_same_model(make_classifier, tags):
    texts, sets = tags
    y = np.array([[colour in s for colour in sorted(COLOURS)] for s in sets], dtype=int)
    expected = make_classifier(max_iter=2).fit(texts, y)
    as_array = np.empty(len(sets), dtype=object)
    as_array[:] = sets
    for given in (
        sets, [sorted(s) for s in sets], [tuple(s) for s in sets], as_array, pd.Series(sets),
        scipy.sparse.csr_matrix(y), scipy.sparse.csr_array(y), pd.DataFrame(y), y.astype(bool),
        y.tolist(),
    ):  # fmt: skip
        clf = make_classifier(max_iter=2).fit(texts, given)
        assert_same_state(clf, expected)
    clf = make_classifier(max_iter=2).fit(texts, sets)
    assert clf.classes_.tolist() == sorted(COLOURS)
    np.testing.assert_array_equal(clf.predict(texts), expected.predict(texts))


@pytest.mark.parametrize("library", [pd, pl])
def test_names_of_an_indicator_frames_columns_become_the_classes(make_classifier, tags, library):
    texts, sets = tags
    names = COLOURS  # in another order than sorted
    frame = library.DataFrame({c: [int(c in s) for s in sets] for c in names})
    clf = make_classifier(max_iter=2).fit(texts, frame)
    assert clf.classes_.tolist() == names
    expected = make_classifier(max_iter=2).fit(texts, frame.to_numpy())
    assert expected.classes_.tolist() == [0, 1, 2]
    assert_same_state(clf, expected)
    # Columns to watch may stand in another order: their names are found.
    options = {"max_iter": 2, "early_stopping": True}
    watched = make_classifier(**options).fit(texts, frame, X_val=texts, y_val=frame[sorted(names)])
    expected = make_classifier(**options).fit(
        texts, frame.to_numpy(), X_val=texts, y_val=frame.to_numpy()
    )
    assert watched.validation_scores_ == expected.validation_scores_


def test_a_label_that_every_row_has_is_predicted_for_every_row(make_classifier, tags):
    texts, sets = tags
    clf = make_classifier(max_iter=2).fit(texts, [s | {"text"} for s in sets])
    column = clf.classes_.tolist().index("text")
    assert clf.predict(texts)[:, column].all()


def test_several_labels_a_row_can_be_validated_and_searched(make_classifier, tags):
    texts, sets = tags
    clf = make_classifier(max_iter=2, early_stopping=True, validation_fraction=0.25)
    clf.fit(texts, sets)
    assert len(clf.validation_scores_) == clf.n_iter_
    y = np.array([[colour in s for colour in COLOURS] for s in sets], dtype=int)
    search = GridSearchCV(make_classifier(max_iter=1), {"rank": [0, 2]}, cv=2).fit(texts, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
