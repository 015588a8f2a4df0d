"""Inside scikit-learn's own tools: pipelines, searches, ensembles, calibration."""

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import tiny
from helpers import CLOSE, assert_same_state
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    cross_val_predict,
    cross_validate,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import sklopa


def test_in_a_pipeline_behind_a_text_cleaner(make_classifier, reviews):
    texts, labels = reviews
    loud = [text.upper() + "!!!" for text in texts]

    def clean(rows):
        return [row.strip("!").lower() for row in rows]

    pipe = Pipeline([("clean", FunctionTransformer(clean)), ("clf", make_classifier())])
    pipe.fit(loud, labels)
    expected = make_classifier().fit(texts, labels)
    np.testing.assert_array_equal(pipe.predict_proba(loud), expected.predict_proba(texts))
    assert pipe.set_params(clf__rank=1).get_params()["clf__rank"] == 1


def test_as_a_text_column_of_a_column_transformer(make_classifier, reviews):
    texts, labels = reviews
    numbers = np.arange(len(texts), dtype=float)
    frame = pd.DataFrame({"id": numbers, "text": texts, "length": [len(t) for t in texts]})
    columns = ColumnTransformer(
        [
            ("text", make_classifier(cv=False), "text"),
            ("numbers", StandardScaler(), ["id", "length"]),
        ]
    )
    features = columns.fit_transform(frame, labels)
    assert features.shape == (len(texts), tiny.WIDTH + 2)
    np.testing.assert_allclose(
        features[:, : tiny.WIDTH], make_classifier().fit(texts, labels).transform(texts), **CLOSE
    )
    names = columns.get_feature_names_out()
    assert names[0] == "text__lopaclassifier0"
    assert names[-1] == "numbers__length"
    both = Pipeline([("columns", columns), ("head", LogisticRegression())]).fit(frame, labels)
    assert both.score(frame, labels) > 0.7


def test_fit_transform_without_cross_fitting_is_fit_then_transform(make_classifier, colours):
    texts, labels = colours
    features = make_classifier(cv=False).fit_transform(texts, labels)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, make_classifier().fit(texts, labels).transform(texts))


def test_set_output_pandas_gives_named_columns_and_the_index(make_classifier, colours):
    texts, labels = colours
    frame = pd.DataFrame({"text": texts}, index=range(5, 5 + len(texts)))
    clf = make_classifier(max_iter=1).set_output(transform="pandas").fit(frame, labels)
    features = clf.transform(frame)
    assert isinstance(features, pd.DataFrame)
    assert features.columns.tolist() == clf.get_feature_names_out().tolist()
    assert features.columns[0] == "lopaclassifier0"
    assert features.index.equals(frame.index)
    assert features.shape == (len(texts), tiny.WIDTH)
    assert isinstance(clf.transform(texts), pd.DataFrame)
    clf.set_output(transform="polars")
    assert isinstance(clf.transform(texts), pl.DataFrame)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_grid_search_embeds_each_distinct_text_once(make_classifier, reviews, jobs):
    texts, labels = reviews[0] + reviews[0][:6], reviews[1] + reviews[1][:6]
    sklopa.cache_clear()
    with joblib.parallel_config("threading", n_jobs=jobs):
        search = GridSearchCV(
            make_classifier(max_iter=1), {"rank": [0, 1, 2], "prompt_length": [0, 2, 4]}, cv=2,
            error_score="raise", n_jobs=jobs,
        ).fit(texts, labels)  # fmt: skip
    assert len(search.cv_results_["params"]) == 9
    search.predict(texts)
    info = sklopa.cache_info()
    assert info.misses == len(set(texts)) == 24
    assert info.hits > info.misses
    assert 0 < info.bytes <= info.max_bytes


def test_search_in_threads_equals_search_in_one(make_classifier, reviews):
    scores = []
    for jobs in (1, 2):
        with joblib.parallel_config("threading", n_jobs=jobs):
            search = GridSearchCV(
                make_classifier(), {"rank": [0, 2]}, cv=2, scoring="neg_log_loss", n_jobs=jobs
            ).fit(*reviews)
        scores.append(search.cv_results_["mean_test_score"])
    np.testing.assert_allclose(scores[0], scores[1], rtol=0, atol=1e-6)


def test_cross_validation_helpers(make_classifier, reviews):
    texts, labels = reviews
    scores = cross_validate(make_classifier(), texts, labels, cv=2, error_score="raise")
    assert np.isfinite(scores["test_score"]).all()
    probabilities = cross_val_predict(
        make_classifier(), texts, labels, cv=2, method="predict_proba"
    )
    assert probabilities.shape == (len(texts), 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda clf: CalibratedClassifierCV(clf, cv=2),
        lambda clf: StackingClassifier([("a", clf), ("b", clone(clf).set_params(rank=0))], cv=2),
        lambda clf: VotingClassifier([("a", clf), ("b", clone(clf))], voting="soft"),
    ],
    ids=["calibrated", "stacking", "voting"],
)
def test_inside_an_ensemble(make_classifier, reviews, wrap):
    texts, labels = reviews
    ensemble = wrap(make_classifier(max_iter=2)).fit(texts, labels)
    assert ensemble.classes_.tolist() == ["neg", "pos"]
    probabilities = ensemble.predict_proba(texts)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-6)
    assert ensemble.score(texts, labels) > 0.6


def test_sample_weight_is_routed_where_it_is_asked_for(make_classifier, reviews):
    texts, labels = reviews
    weights = np.linspace(0.1, 3.0, len(texts))
    train, test = np.arange(16), np.arange(16, len(texts))
    with sklearn.config_context(enable_metadata_routing=True):
        clf = make_classifier().set_fit_request(sample_weight=True)
        clf.set_score_request(sample_weight=False)
        result = cross_validate(
            clf, texts, labels, cv=[(train, test)], return_estimator=True, error_score="raise",
            params={"sample_weight": weights},
        )  # fmt: skip
        pipe = Pipeline([("same", FunctionTransformer()), ("clf", clone(clf))])
        pipe.fit(texts[:16], labels[:16], sample_weight=weights[:16])
    expected = make_classifier().fit(texts[:16], labels[:16], sample_weight=weights[:16])
    assert_same_state(result["estimator"][0], expected)
    assert_same_state(pipe[-1], expected)
    plain = make_classifier().fit(texts[:16], labels[:16])
    assert (plain.decision_function(texts) != expected.decision_function(texts)).any()


def test_halving_search_gives_more_epochs_to_fewer_candidates(make_classifier, reviews):
    texts, labels = reviews
    search = HalvingGridSearchCV(
        make_classifier(),
        {"rank": [0, 1, 2], "prompt_length": [2, 4]},
        resource="max_iter",
        min_resources=1,
        max_resources=4,
        factor=2,
        cv=2,
        random_state=0,
    ).fit(texts, labels)
    assert search.n_candidates_ == [6, 3, 2]
    assert search.best_estimator_.n_iter_ == search.n_resources_[-1] == 4
    assert search.score(texts, labels) > 0.7
