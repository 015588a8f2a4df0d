"""The claims of ``sklopa.metrics``."""

import inspect
import itertools
import math
import pickle
import pickletools
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_score

from sklopa import metrics
from sklopa._sandbox.run import run_isolated
from sklopa.errors import (
    CodeExecutionDisabled,
    InvalidInput,
    InvalidType,
    MissingDependency,
    SandboxUnavailable,
    SklopaError,
)

try:
    run_isolated("")
    PROBLEM = ""
except SandboxUnavailable as error:
    PROBLEM = str(error)
confined = pytest.mark.skipif(bool(PROBLEM), reason=PROBLEM or "the sandbox works")


class Copier(BaseEstimator):
    """Says X again, or something else; stands for a text generator."""

    def __init__(self, suffix=""):
        self.suffix = suffix

    def fit(self, X, y=None):
        return self

    def predict(self, X):
        return np.array([text + self.suffix for text in X], dtype=object)

    def sample(self, X, n_samples):
        rows = [[text if j == 0 else "wrong" for j in range(n_samples)] for text in X]
        return np.array(rows, dtype=object)

    def log_likelihood(self, X, y):
        return -np.arange(len(X)) - float(len(self.suffix))


# ---- exact match ----


def test_exact_match_is_the_share_of_equal_texts():
    assert metrics.exact_match_score(["a", "b", "c", "d"], ["a", "b", "c", "x"]) == 0.75


def test_exact_match_ignores_white_space_only_when_normalizing():
    y_true, y_pred = ["a b", "c"], ["  a \n\t b ", "c"]
    assert metrics.exact_match_score(y_true, y_pred) == 1.0
    assert metrics.exact_match_score(y_true, y_pred, normalize=False) == 0.5


def test_exact_match_keeps_case():
    assert metrics.exact_match_score(["A"], ["a"]) == 0.0


def test_exact_match_takes_any_of_several_references():
    y_true = [["4", "four"], ("x",), np.array(["y", "z"]), "w"]
    assert metrics.exact_match_score(y_true, ["four", "x", "z", "v"]) == 0.75


def test_exact_match_weighs_rows():
    score = metrics.exact_match_score(["a", "b"], ["a", "x"], sample_weight=[3, 1])
    assert score == 0.75


@pytest.mark.parametrize(
    "container",
    [list, tuple, np.array, pd.Series, lambda x: np.array(x, dtype=object)],
    ids=["list", "tuple", "array", "series", "object"],
)
def test_exact_match_takes_the_usual_containers(container):
    assert metrics.exact_match_score(container(["a", "b"]), container(["a", "x"])) == 0.5


def test_exact_match_takes_a_frame_with_a_column_for_each_reference():
    frame = pd.DataFrame({"one": ["a", "b"], "two": ["c", "d"]})
    assert metrics.exact_match_score(frame, ["c", "x"]) == 0.5


def test_inputs_are_not_changed():
    y_true, y_pred = [["a ", "b"], "c"], np.array([" a", "c"], dtype=object)
    y_pred.flags.writeable = False
    metrics.exact_match_score(y_true, y_pred)
    assert y_true == [["a ", "b"], "c"]


@pytest.mark.parametrize(
    ("y_true", "y_pred", "error", "words"),
    [
        ("text", ["a"], InvalidType, "y_true is str 'text'"),
        (["a"], "text", InvalidType, "y_pred is str 'text'"),
        (["a", None], ["a", "b"], InvalidType, r"y_true\[1\] is NoneType"),
        (["a", "b"], ["a", float("nan")], InvalidType, r"y_pred\[1\] is float"),
        (["a", ["b", 1]], ["a", "b"], InvalidType, r"y_true\[1\] is int"),
        ([b"a"], ["a"], InvalidType, r"y_true\[0\] is bytes"),
        (["a", []], ["a", "b"], InvalidInput, r"y_true\[1\] is empty"),
        ([], [], InvalidInput, "y_true is empty"),
        (["a", "b"], ["a"], InvalidInput, "y_true has 2 rows and y_pred has 1"),
    ],
)
def test_bad_rows_are_named(y_true, y_pred, error, words):
    for score in (metrics.exact_match_score, metrics.chrf_score, metrics.bleu_score):
        with pytest.raises(error, match=words) as caught:
            score(y_true, y_pred)
        assert isinstance(caught.value, SklopaError)


@pytest.mark.parametrize("weights", [[1], [1, -1], [0, 0], [1, float("nan")], [[1, 1]]])
def test_weights_that_make_no_sense_are_refused(weights):
    with pytest.raises(InvalidInput, match="sample_weight"):
        metrics.exact_match_score(["a", "b"], ["a", "b"], sample_weight=weights)


# ---- pass@k ----


def test_pass_at_k_counts_the_choices_that_hold_a_pass():
    for n, c, k in itertools.product(range(1, 7), range(7), range(1, 7)):
        if c > n or k > n:
            continue
        choices = list(itertools.combinations(range(n), k))
        share = sum(min(choice) < c for choice in choices) / len(choices)
        assert metrics.pass_at_k(n, c, k) == pytest.approx(share, abs=1e-12)


def test_pass_at_k_is_stable_for_large_numbers():
    n, c, k = 10**6, 1, 1
    assert metrics.pass_at_k(n, c, k) == pytest.approx(1e-6, rel=1e-12)
    exact = 1 - math.comb(2000 - 30, 500) / math.comb(2000, 500)
    assert metrics.pass_at_k(2000, 30, 500) == pytest.approx(exact, rel=1e-12)


def test_pass_at_k_takes_arrays_and_gives_their_shape():
    chances = metrics.pass_at_k([10, 20], [1, 1], 2)
    assert chances.tolist() == pytest.approx([0.2, 0.1])
    assert metrics.pass_at_k(4, np.array([[0, 1], [3, 4]]), 2).shape == (2, 2)
    assert isinstance(metrics.pass_at_k(4, 1, 1), float)


@pytest.mark.parametrize(
    ("n", "c", "k", "words"),
    [
        (3, 1, 4, "k is 4"),
        (3, 1, 0, "k is 0"),
        ([5, 3], [0, 0], 4, "smallest number of samples is 3"),
        (3, 4, 1, "between 4 and 4"),
        (3, -1, 1, "between -1 and -1"),
        (0, 0, 1, "smallest number of samples is 0"),
        (3.0, 1, 1, "n is 3.0"),
        (3, "1", 1, "c is '1'"),
        (3, 1, [1, 2], "k has shape"),
        ([3, 3], [1, 1, 1], 1, "n has shape"),
        ([], [], 1, "n is"),
    ],
)
def test_pass_at_k_refuses_impossible_numbers(n, c, k, words):
    with pytest.raises(InvalidInput, match=words):
        metrics.pass_at_k(n, c, k)


# ---- programs ----

RIGHT, WRONG = "def f(x): return x + 1", "def f(x): return x"
TEST = "assert f(1) == 2"


@pytest.mark.parametrize(
    "options", [{}, {"allow_code_execution": False}, {"allow_code_execution": 1}]
)
def test_no_code_runs_unless_allowed(tmp_path, monkeypatch, options):
    monkeypatch.setattr("sklopa.metrics.programs.run_isolated", lambda *_, **__: pytest.fail("ran"))
    for call in (metrics.code_passes, metrics.code_pass_rate):
        with pytest.raises(CodeExecutionDisabled, match="allow_code_execution=True") as caught:
            call([RIGHT], [TEST], **options)
        assert "1 programs" in str(caught.value)
        assert "not a security boundary" in str(caught.value)
    with pytest.raises(ValueError, match="allow_code_execution=True"):
        metrics.make_code_pass_scorer(**options)


@confined
def test_code_passes_tells_the_programs_one_by_one():
    passes = metrics.code_passes([RIGHT, WRONG, "def"], [TEST] * 3, allow_code_execution=True)
    assert passes.dtype == bool
    assert passes.tolist() == [True, False, False]


@confined
def test_a_program_passes_by_its_test_and_not_by_what_it_says():
    fakes = [
        "import sys; sys._getframe(1).f_locals['codes'].pop()",
        "import os, sys; sys._getframe(2).f_locals['tell'](None); os._exit(0)",
        "import sys\ndef f(x): return sys._getframe(1).f_code.co_consts[1]",
        "import sys; sys.exit(0)",
    ]
    right = [
        f"{RIGHT}\nif __name__ == '__main__':\n    import sys\n    sys.exit(0)",
        f"import os\n{RIGHT}\nos.closerange(0, 1024)",
    ]
    tests = [TEST] * 6
    passes = metrics.code_passes(fakes + right, tests, allow_code_execution=True)
    assert passes.tolist() == [False] * 4 + [True] * 2


@confined
@pytest.mark.parametrize("container", [list, lambda x: np.array(x, dtype=object)])
def test_code_pass_rate_of_samples_is_the_mean_of_pass_at_1(container):
    programs = container([[RIGHT, WRONG], [RIGHT, RIGHT]])
    tests = [TEST, "assert f(2) == 3"]
    passes = metrics.code_passes(programs, tests, allow_code_execution=True, n_jobs=2)
    assert passes.tolist() == [[True, False], [True, True]]
    assert metrics.code_pass_rate(programs, tests, allow_code_execution=True) == 0.75


@confined
def test_each_program_meets_its_own_test():
    programs = [f"x = {i}" for i in range(6)]
    tests = [f"assert x == {i}" for i in range(6)]
    allowed = {"allow_code_execution": True, "n_jobs": 2}
    assert metrics.code_pass_rate(programs, tests, **allowed) == 1.0
    assert metrics.code_pass_rate(programs, tests[::-1], **allowed) == 0.0


@confined
def test_limits_reach_the_programs():
    slow, big = "import time; time.sleep(3)", "x = bytearray(100 * 2**20)"
    allowed = {"allow_code_execution": True}
    assert not metrics.code_passes([slow], [""], timeout=0.2, **allowed)[0]
    assert metrics.code_passes([big], [""], **allowed)[0]
    assert not metrics.code_passes([big], [""], memory_limit=64, **allowed)[0]


@pytest.mark.parametrize(
    ("programs", "tests", "words"),
    [
        ("def f(): pass", ["x"], "programs is str"),
        ([RIGHT, None], [TEST] * 2, r"programs\[1\] is NoneType"),
        ([[RIGHT, RIGHT], [RIGHT]], [TEST] * 2, r"programs\[1\] does not have 2 texts"),
        ([[RIGHT], [3]], [TEST] * 2, r"programs\[1\]\[0\] is int"),
        ([[], []], [TEST] * 2, r"programs\[0\] does not have 1 texts"),
        ([RIGHT], [TEST] * 2, "programs has 1 rows and tests has 2"),
        ([RIGHT], ["assert ("], r"tests\[0\] is not valid Python"),
        ([RIGHT], ["\0"], r"tests\[0\] is not valid Python"),
        ([RIGHT], [[TEST]], r"tests\[0\] is list"),
    ],
)
def test_bad_programs_and_tests_are_named_before_anything_runs(monkeypatch, programs, tests, words):
    monkeypatch.setattr("sklopa.metrics.programs.run_isolated", lambda *_, **__: pytest.fail("ran"))
    with pytest.raises((InvalidInput, InvalidType), match=words):
        metrics.code_passes(programs, tests, allow_code_execution=True)


def test_a_system_without_confinement_is_an_error_and_not_a_low_score(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SandboxUnavailable, match="darwin"):
        metrics.code_pass_rate([RIGHT], [TEST], allow_code_execution=True)


# ---- sacrebleu ----


def test_corpus_scores_are_those_of_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu")
    y_true = ["the cat is on the mat", "a dog barks loudly at night"]
    y_pred = ["the cat sat on the mat", "a dog barks loudly at the moon"]
    chrf, bleu = sacrebleu.corpus_chrf(y_pred, [y_true]), sacrebleu.corpus_bleu(y_pred, [y_true])
    assert metrics.chrf_score(y_true, y_pred) == chrf.score
    assert metrics.bleu_score(y_true, y_pred) == bleu.score
    assert 0 < bleu.score < 100


@pytest.mark.parametrize("score", [metrics.chrf_score, metrics.bleu_score])
def test_corpus_scores_are_100_for_equal_texts_and_take_the_best_reference(score):
    pytest.importorskip("sacrebleu")
    y_pred = ["the cat is on the mat", "a dog barks loudly at night"]
    assert score(y_pred, y_pred) == pytest.approx(100)
    several = [["no such thing at all", y_pred[0], "neither this one"], [y_pred[1]]]
    assert score(several, y_pred) == pytest.approx(100)
    assert score([row[:1] for row in several], y_pred) < 90


@pytest.mark.parametrize("name", ["chrf_score", "bleu_score"])
def test_a_missing_sacrebleu_names_the_feature_and_the_install_line(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(MissingDependency, match=rf"{name}.*pip install sacrebleu"):
        getattr(metrics, name)(["a"], ["a"])


# ---- scorers ----

TEXTS = ["one two three four five", "six seven eight nine ten", "a b c d e", "f g h i j"]


SCORERS = {
    "exact_match_scorer": metrics.exact_match_score,
    "chrf_scorer": metrics.chrf_score,
    "bleu_scorer": metrics.bleu_score,
}


def needs_sacrebleu(name):
    if name != "exact_match_scorer":
        pytest.importorskip("sacrebleu")


@pytest.mark.parametrize("name", SCORERS)
def test_scorers_of_texts_are_scikit_learns_and_score_predictions(name):
    needs_sacrebleu(name)
    scorer, y_true = getattr(metrics, name), [["no", TEXTS[0]], *TEXTS[1:]]
    assert type(scorer) is type(make_scorer(metrics.exact_match_score))
    expected = SCORERS[name](y_true, [text + " x" for text in TEXTS])
    assert scorer(Copier(" x"), TEXTS, y_true) == expected
    assert SCORERS[name].__name__ in inspect.getdoc(scorer)


@pytest.mark.parametrize("name", SCORERS)
def test_scorers_of_texts_travel_to_workers(name):
    needs_sacrebleu(name)
    scores = cross_val_score(Copier(), TEXTS, TEXTS, scoring=getattr(metrics, name), cv=2, n_jobs=2)
    assert scores == pytest.approx(SCORERS[name](TEXTS, TEXTS))


def test_the_exact_match_scorer_weighs_rows():
    score = metrics.exact_match_scorer(Copier(), ["a", "b"], ["a", "x"], sample_weight=[3, 1])
    assert score == 0.75


@pytest.mark.parametrize(
    ("scorer", "best"),
    [
        (metrics.exact_match_scorer, 1.0),
        (metrics.chrf_scorer, 100.0),
        (metrics.bleu_scorer, 100.0),
        (metrics.log_likelihood_scorer, -0.5),
    ],
)
def test_scorers_choose_the_better_estimator_in_a_grid_search(scorer, best):
    if scorer in (metrics.chrf_scorer, metrics.bleu_scorer):
        pytest.importorskip("sacrebleu")
    grid = {"suffix": [" something else", ""]}
    search = GridSearchCV(Copier(), grid, scoring=scorer, cv=2, error_score="raise")
    search = clone(search).fit(TEXTS, TEXTS)
    assert search.best_params_ == {"suffix": ""}
    assert search.best_score_ == pytest.approx(best)


def test_scorers_survive_pickling():
    code = metrics.make_code_pass_scorer(allow_code_execution=True, n_samples=3, k=2)
    assert pickle.loads(pickle.dumps(code)) == code
    for name in set(metrics.__all__) - SCORERS.keys():
        function = getattr(metrics, name)
        assert pickle.loads(pickle.dumps(function)) is function


@pytest.mark.parametrize("name", SCORERS)
def test_scorers_of_texts_survive_pickling_and_name_no_private_module(name):
    scorer, score = getattr(metrics, name), SCORERS[name]
    pickled = pickle.dumps(scorer)
    named = {text for _, text, _ in pickletools.genops(pickled) if isinstance(text, str)}
    ours = {text for text in named if text.split(".")[0] == "sklopa"}
    assert ours == {score.__module__}
    assert not any(part.startswith("_") for text in ours for part in text.split("."))
    again = pickle.loads(pickled)
    assert repr(again) == repr(scorer)
    assert again.__doc__ == scorer.__doc__


@confined
def test_the_code_scorer_runs_predictions_in_a_search():
    scorer = metrics.make_code_pass_scorer(allow_code_execution=True)
    programs, tests = [RIGHT, RIGHT, RIGHT, WRONG], [TEST] * 4
    assert cross_val_score(Copier(), programs, tests, scoring=scorer, cv=2).mean() == 0.75
    grid = {"suffix": ["\nf = None", ""]}
    search = GridSearchCV(Copier(), grid, scoring={"code": scorer}, refit="code", cv=2, n_jobs=2)
    assert clone(search).fit(programs, tests).best_params_ == {"suffix": ""}


@confined
@pytest.mark.parametrize(("k", "expected"), [(1, 0.5 / 3), (2, 0.5 * 2 / 3), (3, 0.5)])
def test_the_code_scorer_estimates_pass_at_k_from_samples(k, expected):
    scorer = metrics.make_code_pass_scorer(allow_code_execution=True, n_samples=3, k=k, n_jobs=2)
    assert scorer(Copier(), [RIGHT, WRONG], [TEST] * 2) == pytest.approx(expected)


@pytest.mark.parametrize(
    "options",
    [{"k": 2}, {"n_samples": 0}, {"n_samples": 2.0}, {"timeout": -1}, {"memory_limit": 1}],
)
def test_a_code_scorer_that_cannot_work_is_refused_when_made(options):
    with pytest.raises(InvalidInput):
        metrics.make_code_pass_scorer(allow_code_execution=True, **options)


def test_all_public_names_exist():
    assert sorted(metrics.__all__) == metrics.__all__
    assert all(callable(getattr(metrics, name)) for name in metrics.__all__)
