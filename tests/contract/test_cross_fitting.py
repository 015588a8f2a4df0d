"""`fit_transform` gives features of rows whose labels they have not seen."""

import faults
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import tiny
import tiny_vision
from helpers import CLOSE, assert_same_state, raises
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, KFold, PredefinedSplit, ShuffleSplit
from sklearn.pipeline import make_pipeline

from sklopa import LoPAClassifier, LoPAImageClassifier, LoPARegressor

PARTS = PredefinedSplit([0, 1, 2] * 8)  # of 24 rows


def test_the_features_of_a_row_come_from_a_fit_on_the_other_parts(make_classifier, reviews):
    texts, labels = map(np.array, reviews)
    weights = np.linspace(0.5, 1.5, len(texts))
    clf = make_classifier(cv=PARTS)
    features = clf.fit_transform(texts, labels, sample_weight=weights)
    assert features.dtype == np.float32
    for train, test in PARTS.split():
        other = make_classifier().fit(texts[train], labels[train], sample_weight=weights[train])
        np.testing.assert_allclose(features[test], other.transform(texts[test]), **CLOSE)
    assert_same_state(clf, make_classifier().fit(texts, labels, sample_weight=weights))
    assert not np.allclose(features, clf.transform(texts), atol=1e-3)


def test_they_do_not_depend_on_the_label_of_their_row(make_classifier, reviews):
    texts, labels = reviews
    other = ["neg" if label == "pos" else "pos" for label in labels]
    mixed = [o if i % 3 == 0 else x for i, (x, o) in enumerate(zip(labels, other, strict=True))]
    one, two = (make_classifier(cv=PARTS).fit_transform(texts, y) for y in (labels, mixed))
    np.testing.assert_array_equal(one[::3], two[::3])
    assert not np.array_equal(one[1::3], two[1::3])


def test_parts_are_drawn_anew_by_class_from_the_random_state(make_classifier, reviews):
    made = [make_classifier(random_state=seed, max_iter=1) for seed in (0, 0, 1)]
    one, two, three = (clf.fit_transform(*reviews) for clf in made)
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, three)
    codes = np.array([0, 1] * 10 + [0] * 5)
    for train, test in make_classifier(cv=5)._parts(codes):
        assert np.bincount(codes[test]).tolist() == [3, 2]
        assert not set(train) & set(test)


def test_five_parts_are_the_default_and_zero_are_one_fit(make_classifier, reviews, monkeypatch):
    fits, fit = [], LoPAClassifier._fit

    def counted(self, X, *args):
        fits.append(len(X))
        fit(self, X, *args)

    monkeypatch.setattr(LoPAClassifier, "_fit", counted)
    for options, n_fits in (({}, 6), ({"cv": 3}, 4), ({"cv": False}, 1), ({"prompt_length": 0}, 1)):
        fits.clear()
        clf = make_classifier(max_iter=1, **options)
        features = clf.fit_transform(*reviews)
        assert len(fits) == n_fits
        if n_fits == 1:  # features that know nothing of y, or may know it
            np.testing.assert_array_equal(features, clf.transform(reviews[0]))


def test_what_is_written_or_goes_on_is_the_one_fit_on_all_rows(make_classifier, reviews, tmp_path):
    texts, labels = reviews
    options = {"max_iter": 1, "checkpoint_dir": tmp_path, "checkpoint_every": 1, "cv": 2}
    clf = make_classifier(warm_start=True, **options)
    clf.fit_transform(texts, labels)
    assert clf.n_iter_ == 1
    before = {path.name for path in tmp_path.iterdir()}
    assert make_classifier(warm_start=True, **options).fit(texts, labels).n_iter_ == 1
    assert {path.name for path in tmp_path.iterdir()} == before


KINDS = {
    "series": (lambda X: pd.Series(X, index=range(5, 29)), lambda y: pd.Series(y)),
    "polars": (lambda X: pl.DataFrame({"text": X}), lambda y: pl.Series(y)),
    "pairs": (lambda X: [(x, x) for x in X], list),
    "indicators": (list, lambda y: np.array([[label == "pos", True] for label in y])),
    "sparse": (list, lambda y: scipy.sparse.csr_matrix([[label == "pos", 1] for label in y])),
    "sets": (list, lambda y: [{label, "x"} for label in y]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_and_labels_of_any_kind_are_parted(make_classifier, reviews, kind):
    of_texts, of_labels = KINDS[kind]
    X, y = of_texts(reviews[0]), of_labels(reviews[1])
    features = make_classifier(max_iter=1, cv=2).fit_transform(X, y)
    assert features.shape == (24, tiny.WIDTH)
    assert np.isfinite(features).all()


def test_other_estimators_cross_fit_too():
    X, y = tiny_vision.images()
    clf = LoPAImageClassifier(tiny_vision.backbone(), **faults.SMALL, max_iter=1, cv=2)
    assert len(clf.fit_transform(X, y)) == len(X)
    model = LoPARegressor(tiny.backbone(), **faults.SMALL, max_iter=1, cv=KFold(3))
    texts = faults.TEXTS
    features, numbers = model.fit_transform(texts, np.arange(len(texts))), np.arange(len(texts))
    train, test = next(iter(KFold(3).split(texts)))
    other = LoPARegressor(tiny.backbone(), **faults.SMALL, max_iter=1)
    other.fit([texts[i] for i in train], numbers[train])
    expected = other.transform([texts[i] for i in test])
    np.testing.assert_allclose(features[test], expected, **CLOSE)


def test_output_is_a_frame_where_that_is_asked(make_classifier, reviews):
    frame = pd.DataFrame({"text": reviews[0]}, index=range(5, 29))
    clf = make_classifier(max_iter=1, cv=2).set_output(transform="pandas")
    features = clf.fit_transform(frame, reviews[1])
    assert isinstance(features, pd.DataFrame)
    assert features.columns.tolist() == clf.get_feature_names_out().tolist()
    assert features.index.tolist() == frame.index.tolist()


def test_a_pipeline_trains_later_steps_on_them(make_classifier, reviews):
    texts, labels = reviews
    pipe = make_pipeline(make_classifier(cv=3), LogisticRegression()).fit(texts, labels)
    head = LogisticRegression().fit(make_classifier(cv=3).fit_transform(texts, labels), labels)
    np.testing.assert_array_equal(pipe[-1].coef_, head.coef_)


def test_parts_that_cannot_be_are_refused(make_classifier, reviews):
    for cv in (25, GroupKFold(2)):
        with raises(ValueError, "fit_transform cannot part 24 rows", "cv=False"):
            make_classifier(max_iter=1, cv=cv).fit_transform(*reviews)
    with raises(ValueError, "holds out each row once"):
        make_classifier(max_iter=1, cv=ShuffleSplit(2)).fit_transform(*reviews)
