"""Where a head starts: a linear model, and what it says of rows that it has not seen."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.preprocessing import StandardScaler

from sklopa._heads import linear_start
from sklopa._heads.linear_start import ProbeRows, logistic_start, ridge_start
from sklopa._tasks.classification import SeveralLabels, SingleLabel
from sklopa._tasks.regression import Regression
from sklopa._training.starts import shared_start

FOLDS = KFold(5, shuffle=True, random_state=0)


def noise(n, d, seed=0):
    """Standardised features (n, d) that say nothing of any label."""
    X = np.random.RandomState(seed).randn(n, d)
    return torch.from_numpy((X - X.mean(axis=0)) / X.std(axis=0))


def accuracy(outputs, y):
    return (outputs.argmax(axis=1) == y.numpy()).mean()


def test_with_the_offset_outputs_are_those_of_models_that_have_not_seen_the_row():
    X, y = noise(40, 12), torch.arange(40) % 3  # few rows: the penalty is not chosen
    start = logistic_start(ProbeRows(X, y, torch.ones(40)))
    model = LogisticRegression(C=0.002, max_iter=100)
    expected = cross_val_predict(model, X.numpy(), y.numpy(), cv=FOLDS, method="decision_function")
    outputs = X.numpy() @ start.coef.T + start.intercept + start.offset
    np.testing.assert_allclose(outputs, expected, atol=1e-4)


def test_numbers_have_an_offset_too():
    X, y = noise(40, 12), noise(40, 2, seed=1)
    start = ridge_start(ProbeRows(X, y, torch.ones(40)))
    inside = X.numpy() @ start.coef.T + start.intercept
    for k in range(2):
        outside = [
            Ridge(alpha=0.1 * 40).fit(X[a].numpy(), y[a, k].numpy()).predict(X[b].numpy())
            for a, b in FOLDS.split(X)
        ]
        order = np.concatenate([b for _, b in FOLDS.split(X)])
        np.testing.assert_allclose(
            (inside + start.offset)[order, k], np.concatenate(outside), atol=1e-6
        )


def test_labels_without_meaning_are_learned_by_heart_but_not_with_the_offset():
    X, y = noise(300, 400), torch.from_numpy(np.random.RandomState(1).randint(0, 2, 300))
    start = logistic_start(ProbeRows(X, y, torch.ones(300)))
    outputs = X.numpy() @ start.coef.T + start.intercept
    assert accuracy(outputs, y) > 0.8
    assert 0.4 < accuracy(outputs + start.offset, y) < 0.6


def test_the_output_of_a_class_that_a_fold_lacks_stays():
    X, y = noise(40, 12), torch.arange(40) % 2
    y[7] = 2
    start = logistic_start(ProbeRows(X, y, torch.ones(40)))
    (fold,) = [test for _, test in FOLDS.split(X) if 7 in test]
    assert (start.offset[fold, 2] == 0).all()
    assert (start.offset[fold][:, :2] != 0).all()
    assert (np.delete(start.offset[:, 2], fold) != 0).all()


def test_with_fewer_rows_a_class_than_folds_there_is_no_offset():
    for n_classes, expected in ((8, True), (9, False)):
        y = torch.arange(40) % n_classes
        start = logistic_start(ProbeRows(noise(40, 12), y, torch.ones(40)))
        assert start.offset.any() == expected


def test_with_few_rows_a_class_the_best_penalty_is_taken_not_the_strongest_as_good():
    y = torch.arange(60) % 20
    centres = 0.4 * np.random.RandomState(1).randn(20, 40)
    X = torch.from_numpy(StandardScaler().fit_transform(centres[y] + noise(60, 40).numpy()))
    start = logistic_start(ProbeRows(X, y, torch.ones(60)))
    best = LogisticRegression(C=0.25, max_iter=100).fit(X, y)  # 0.05 is within an error of it
    np.testing.assert_allclose(start.coef, best.coef_, atol=1e-3)


@pytest.mark.parametrize("n_rows", [2, 3, 5])
def test_a_handful_of_rows_is_enough(n_rows):
    y = torch.arange(n_rows) % 2
    start = logistic_start(ProbeRows(noise(n_rows, 4), y, torch.ones(n_rows)))
    assert np.isfinite(start.offset).all()


def test_a_single_row_has_nothing_to_compare_with():
    start = ridge_start(ProbeRows(torch.ones(1, 4), torch.ones(1, 1), torch.ones(1)))
    assert start.offset.tolist() == [[0.0]]


def test_a_row_that_is_there_twice_is_held_out_as_a_whole():
    X, y, twice = noise(20, 12), torch.arange(20) % 2, torch.arange(20).repeat_interleave(2)
    repeated = ProbeRows(X[twice], y[twice], torch.ones(40), group=twice)
    weighted = ProbeRows(X, y, 2 * torch.ones(20))
    expected = logistic_start(weighted).offset[twice]
    np.testing.assert_allclose(logistic_start(repeated).offset, expected, atol=1e-4)
    alone = ProbeRows(X[twice], y[twice], torch.ones(40))  # nothing says that rows are equal
    assert np.abs(logistic_start(alone).offset - expected).max() > 1e-2


def test_a_class_that_no_row_has_gets_no_offset():
    X, y = noise(40, 12), 2 * (torch.arange(40) % 2)
    weight, bias, offset = SingleLabel(np.arange(4)).start(ProbeRows(X, y, torch.ones(40)))
    assert (weight.shape, bias.shape, offset.shape) == ((4, 12), (4,), (40, 4))
    assert (offset[:, [1, 3]] == 0).all()
    assert (offset[:, [0, 2]] != 0).all()


def test_several_labels_have_an_offset_each():
    X, y = noise(40, 12), (torch.arange(40)[:, None] % torch.tensor([2, 3, 1]) == 0).float()
    _, _, offset = SeveralLabels(np.arange(2)).start(ProbeRows(X, y, torch.ones(40)))
    alone = logistic_start(ProbeRows(X, y[:, 1].long(), torch.ones(40))).offset
    np.testing.assert_allclose(offset[:, 1], alone[:, 1] - alone[:, 0], rtol=1e-5)
    assert (offset[:, 2] == 0).all()  # always there: nothing to fit


def test_training_begins_with_the_loss_of_unseen_rows(make_classifier, reviews):
    texts = reviews[0]
    labels = np.random.RandomState(0).randint(0, 2, len(texts))  # nothing to find
    clf = make_classifier(max_iter=1, learning_rate=1e-9).fit(texts, labels)
    p = clf.predict_proba(texts)[np.arange(len(texts)), labels]
    assert clf.loss_curve_[0] > max(-np.log(p).mean() + 0.01, 0.69)


def test_of_many_rows_a_start_reads_some_with_each_class_among_them(monkeypatch):
    monkeypatch.setattr(linear_start, "_MANY_ROWS", 60)
    X, y = noise(400, 12), torch.arange(400) % 2
    y[[5, 123, 399]] = torch.tensor([2, 3, 3])
    rows = ProbeRows(X, y, torch.arange(400) + 1.0)
    used = rows.sample()
    assert len(used) == 60
    assert {5, 123, 399} <= set(used.tolist())
    assert (used.diff() > 0).all()  # each once, in the order of the rows
    assert torch.bincount(y[used])[:2].min() > 15
    task = SingleLabel(np.arange(4))
    weights, bias, offset = shared_start(task, rows)
    few = task.start(ProbeRows(X[used], y[used], rows.weight[used]))
    assert torch.equal(weights, few[0])
    assert torch.equal(bias, few[1])
    assert torch.equal(offset[used], few[2])
    assert offset[used].any()
    unused = np.setdiff1d(np.arange(400), used)
    assert not offset[unused].any()


def test_many_numbers_are_sampled_too(monkeypatch):
    monkeypatch.setattr(linear_start, "_MANY_ROWS", 60)
    rows = ProbeRows(noise(400, 12), noise(400, 2, seed=1), torch.ones(400))
    offset = shared_start(Regression(np.zeros(2), np.ones(2)), rows)[2]
    assert 0 < (offset != 0).any(dim=1).sum() <= 60


def test_up_to_that_many_rows_all_are_read():
    assert torch.equal(ProbeRows(noise(40, 3), torch.ones(40), torch.ones(40)).sample(),
                       torch.arange(40))  # fmt: skip
