"""`ablate` says what the parts of a fitted classifier are worth."""

import numpy as np
import pytest
import tiny
from sklearn.metrics import accuracy_score

from sklopa import LoPAClassifier
from sklopa.errors import InvalidInput, NotFitted, TruncationWarning

PROBE = "linear probe, cross-validated"
WAYS = ["prompt", "no prompt", "another row's prompt", "task prompt alone", PROBE]


def test_the_first_score_is_that_of_the_estimator(fitted3, colours):
    scores = fitted3.ablate(*colours)
    assert list(scores) == WAYS
    assert scores["prompt"] == fitted3.score(*colours)
    assert all(0 <= score <= 1 for score in scores.values())


def test_without_its_prompt_a_classifier_that_lives_by_it_is_lost(reviews):
    texts, labels = reviews
    clf = LoPAClassifier(
        tiny.backbone(), prompt_length=4, rank=2, head="verbalizer", learning_rate=2e-2,
        verbalizer={"pos": "good", "neg": "bad"}, max_iter=30, random_state=0, bottleneck=256,
    ).fit(texts, labels)  # fmt: skip
    scores = clf.ablate(texts, labels)
    assert scores["no prompt"] < scores["prompt"] - 0.1


@pytest.mark.parametrize(
    ("options", "ways"),
    [
        ({"rank": 0}, WAYS),
        ({"depth": "deep"}, WAYS),
        ({"train_encoder": True}, WAYS),
        ({"gate": "instance"}, [way for way in WAYS if way != "task prompt alone"]),
        ({"prompt_length": 0}, ["prompt", PROBE]),
    ],
)
def test_parts_that_are_not_there_are_left_out(make_classifier, reviews, options, ways):
    scores = make_classifier(**options).fit(*reviews).ablate(*reviews)
    assert list(scores) == ways
    if options == {"rank": 0}:  # one prompt for all
        assert scores["another row's prompt"] == scores["task prompt alone"] == scores["prompt"]


def test_several_labels_a_row_are_scored_as_score_does(make_classifier, reviews):
    texts = reviews[0]
    sets = [
        {label, "film"} if "film" in text else {label} for text, label in zip(*reviews, strict=True)
    ]
    clf = make_classifier(max_iter=10).fit(texts, sets)
    scores = clf.ablate(texts, sets)
    truth = np.array([[c in labels for c in clf.classes_] for labels in sets])
    assert scores["prompt"] == accuracy_score(truth, clf.predict(texts))
    assert not [name for name in scores if "probe" in name]


def test_wrong_use_is_named(make_classifier, fitted, reviews):
    with pytest.raises(NotFitted):
        make_classifier().ablate(*reviews)
    with pytest.raises(InvalidInput, match="'other'"):
        fitted.ablate(["good"], ["other"])


def test_texts_that_lost_their_end_are_told_of(fitted):
    with pytest.warns(TruncationWarning, match="1 of 2 texts"):
        fitted.ablate(["good film " * 200, "bad"], ["pos", "neg"])


def test_the_probe_learns_from_the_training_rows_when_they_are_given(make_classifier, reviews):
    texts, labels = reviews
    clf = make_classifier().fit(texts[:16], labels[:16])
    rest = texts[16:], labels[16:]
    scores = clf.ablate(*rest, texts[:16], labels[:16])
    assert list(scores) == [*WAYS[:-1], "linear probe"]
    embedded = make_classifier(prompt_length=0, max_iter=1, learning_rate=1e-12)
    assert scores["linear probe"] == embedded.fit(texts[:16], labels[:16]).score(*rest)
    # One that learned the opposite is wrong where the other is right.
    wrong = ["neg" if label == "pos" else "pos" for label in labels[:16]]
    assert clf.ablate(*rest, texts[:16], wrong)["linear probe"] == 1 - scores["linear probe"]
    with pytest.raises(InvalidInput, match="X_train and y_train"):
        clf.ablate(*rest, texts[:16])
    with pytest.raises(InvalidInput, match="16 rows and y has 2"):
        clf.ablate(*rest, texts[:16], labels[:2])
