"""A fit with `checkpoint_dir` goes on where it stopped, and ends as if it had not."""

import json
import os

import faults
import numpy as np
import pytest
import tiny
import tiny_vision
from helpers import assert_same_state, raises

import sklopa
from sklopa import LoPAClassifier, LoPAGenerator, LoPAImageClassifier, LoPARegressor
from sklopa._storage import files
from sklopa._storage.checkpoint import Checkpoint
from sklopa._storage.read import read_archive
from sklopa._training.progress import FitProgress
from sklopa.errors import SklopaError

TEXTS, LABELS = faults.TEXTS, faults.LABELS


class Stopped(BaseException):
    """What ends a fit at a moment of the test's choice."""


@pytest.fixture
def stop_at_write(monkeypatch):
    """Let a fit end right after its n-th write, as a kill would."""
    write = Checkpoint.write

    def stop(n):
        count = iter(range(1, 1000))

        def counted(self, state):
            write(self, state)
            if next(count) == n:
                raise Stopped

        monkeypatch.setattr(Checkpoint, "write", counted)

    return stop


def fit_in_pieces(make, data, stop_at_write, writes_each=2):
    """A fit that is stopped after every few writes until it is done; how many pieces it took."""
    for n_pieces in range(1, 100):
        stop_at_write(writes_each)
        try:
            return make().fit(*data), n_pieces
        except Stopped:
            pass
    raise AssertionError("the fit did not come to an end")


KINDS = {
    "epochs": {},
    "steps": {"checkpoint_every": 1},
    "every_fourth_step": {"checkpoint_every": 4},
    "early_stopping": {"early_stopping": True, "max_iter": 5},
    "stops_early": {"early_stopping": True, "n_iter_no_change": 1, "tol": 10.0, "max_iter": 9},
    "deep": {"depth": "deep", "checkpoint_every": 2},
    "train_encoder": {"train_encoder": True},
    "linear_probe": {"prompt_length": 0},
    "weight_decay": {"weight_decay": 0.1, "gate": "concat"},
    "constant": {"schedule": "constant", "checkpoint_every": 2, "batch_size": 4},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_in_pieces_ends_with_the_bits_of_one_in_one_piece(stop_at_write, tmp_path, kind):
    options = {"max_iter": 4} | KINDS[kind]
    whole = faults.classifier(**options).fit(TEXTS, LABELS)
    pieces, n_pieces = fit_in_pieces(
        lambda: faults.classifier(checkpoint_dir=tmp_path, **options),
        (TEXTS, LABELS),
        stop_at_write,
    )
    assert n_pieces > 1
    assert_same_state(pieces, whole)
    assert pieces.loss_curve_ == whole.loss_curve_
    assert pieces.validation_scores_ == whole.validation_scores_
    assert pieces.n_iter_ == whole.n_iter_
    for one, other in zip(pieces.history_, whole.history_, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_a_generator_goes_on_too(stop_at_write, tmp_path):
    def make(**options):
        model = tiny.backbone("gpt2")
        return LoPAGenerator(model, **faults.SMALL, max_iter=3, max_new_tokens=4, **options)

    whole = make().fit(TEXTS, TEXTS)
    pieces, _ = fit_in_pieces(
        lambda: make(checkpoint_dir=tmp_path, checkpoint_every=2), (TEXTS, TEXTS), stop_at_write
    )
    assert_same_state(pieces, whole)


def test_an_image_classifier_goes_on_too(stop_at_write, tmp_path):
    data = tiny_vision.images()

    def make(**options):
        return LoPAImageClassifier(tiny_vision.backbone(), **faults.SMALL, max_iter=3, **options)

    whole = make().fit(*data)
    pieces, n_pieces = fit_in_pieces(lambda: make(checkpoint_dir=tmp_path), data, stop_at_write)
    assert n_pieces > 1
    assert_same_state(pieces, whole)


def test_without_a_random_state_it_goes_on_with_the_seeds_it_began_with(stop_at_write, tmp_path):
    def make():
        return faults.classifier(
            random_state=None, early_stopping=True, max_iter=5, checkpoint_dir=tmp_path
        )

    first, n_pieces = fit_in_pieces(make, (TEXTS, LABELS), stop_at_write)
    assert n_pieces > 1
    assert_same_state(make().fit(TEXTS, LABELS), first)


def test_a_finished_fit_started_again_ends_at_once_with_the_same(monkeypatch, tmp_path):
    first = faults.classifier(checkpoint_dir=tmp_path).fit(TEXTS, LABELS)
    monkeypatch.setattr("sklopa._training.loop.Trainer._step", None)  # there is nothing left to do
    assert_same_state(faults.classifier(checkpoint_dir=tmp_path).fit(TEXTS, LABELS), first)


def test_what_changes_no_result_may_change(stop_at_write, tmp_path):
    whole = faults.classifier().fit(TEXTS, LABELS)
    stop_at_write(1)
    with pytest.raises(Stopped):
        faults.classifier(checkpoint_dir=tmp_path).fit(TEXTS, LABELS)
    stop_at_write(99)
    options = {"cv": False, "checkpoint_every": 3, "memory": str(tmp_path / "memory")}
    clf = faults.classifier(checkpoint_dir=tmp_path, **options).fit(np.array(TEXTS), LABELS)
    assert_same_state(clf, whole)


@pytest.mark.parametrize("options", [{}, {"early_stopping": True}], ids=["loss", "score"])
def test_a_fit_goes_on_for_more_epochs(tmp_path, options):
    options = {"checkpoint_dir": tmp_path} | options
    first = faults.classifier(max_iter=2, **options).fit(TEXTS, LABELS)
    more = faults.classifier(max_iter=5, **options).fit(TEXTS, LABELS)
    assert more.n_iter_ == 5
    assert more.loss_curve_[:2] == first.loss_curve_
    assert all(record["learning_rate"] > 0 for record in more.history_)
    with raises(ValueError, "max_iter=5 (now 3)"):
        faults.classifier(max_iter=3, **options).fit(TEXTS, LABELS)
    other = faults.classifier(max_iter=6, learning_rate=1.0, **options)
    with raises(ValueError, "learning_rate="):
        other.fit(TEXTS, LABELS)


def test_the_bar_of_a_fit_that_goes_on_begins_where_it_stands(
    stop_at_write, tmp_path, monkeypatch, capsys
):
    def make(**options):
        return faults.classifier(checkpoint_dir=tmp_path, verbose=1, max_iter=3, **options)

    stop_at_write(1)
    with pytest.raises(Stopped):
        make().fit(TEXTS, LABELS)
    stop_at_write(99)
    bars, close = [], FitProgress.close

    def watched(self):
        bars.append((self._bar.initial, self._bar.n, self._bar.total))
        close(self)

    monkeypatch.setattr(FitProgress, "close", watched)
    make().fit(TEXTS, LABELS)
    make().fit(TEXTS, LABELS)
    n = len(TEXTS)
    assert bars == [(n, 3 * n, 3 * n), (3 * n, 3 * n, 3 * n)]
    capsys.readouterr()


OTHER = {
    "rank": ({"rank": 1}, (TEXTS, LABELS), "rank=2 (now 1)"),
    "random_state": ({"random_state": 1}, (TEXTS, LABELS), "random_state=0 (now 1)"),
    "rows": ({}, (TEXTS[2:], LABELS[2:]), "other data"),
    "order": ({}, (TEXTS[::-1], LABELS), "other data"),
    "labels": ({}, (TEXTS, LABELS[::-1]), "other data"),
    "weights": ({}, (TEXTS, LABELS, [1.0, 2.0] * 12), "other data"),
    "validation": ({}, (TEXTS, LABELS, None, TEXTS, LABELS), "other data"),
    "model": ({"model": tiny.backbone("gpt2")}, (TEXTS, LABELS), "model="),
    "weights_of_the_model": ({"model": "other"}, (TEXTS, LABELS), "other model files"),
}


@pytest.mark.parametrize("kind", OTHER)
def test_other_data_or_parameters_are_named_and_nothing_is_overwritten(tmp_path, kind):
    options, data, reason = OTHER[kind]
    if kind == "weights_of_the_model":
        from sklopa import Backbone

        options = {"model": Backbone.from_objects(*tiny.model("bert", seed=3))}
    faults.classifier(checkpoint_dir=tmp_path).fit(TEXTS, LABELS)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with raises(ValueError, str(tmp_path), reason, "a folder of its own"):
        LoPAClassifier(
            **(faults.SMALL | {"max_iter": 2, "model": tiny.backbone()} | options),
            checkpoint_dir=tmp_path,
        ).fit(*data)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with raises(OSError, "precious.txt", "nothing was written"):
        faults.classifier(checkpoint_dir=tmp_path).fit(TEXTS, LABELS)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_a_damaged_state_is_told_and_not_used(tmp_path):
    faults.classifier(checkpoint_dir=tmp_path).fit(TEXTS, LABELS)
    weights = next(tmp_path.glob("weights-*"))
    weights.write_bytes(weights.read_bytes()[:-1])
    with raises(ValueError, "cannot be read", "Delete the folder"):
        faults.classifier(checkpoint_dir=tmp_path).fit(TEXTS, LABELS)


def test_an_archive_is_no_checkpoint_and_a_checkpoint_no_archive(tmp_path):
    clf = faults.classifier(checkpoint_dir=tmp_path / "c").fit(TEXTS, LABELS)
    clf.save(tmp_path / "a")
    with raises(ValueError, "cannot be read"):
        faults.classifier(checkpoint_dir=tmp_path / "a").fit(TEXTS, LABELS)
    with pytest.raises(SklopaError):
        sklopa.load(tmp_path / "c", backbone=clf.model)


def test_the_folder_holds_json_and_safetensors_alone(tmp_path):
    faults.classifier(checkpoint_dir=tmp_path).fit(TEXTS, LABELS)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", ".json", ".safetensors"]
    json.loads((tmp_path / "manifest.json").read_text())


@pytest.mark.parametrize("options", [{"checkpoint_dir": "c"}, {"schedule": "constant"}])
@pytest.mark.filterwarnings("ignore:R.2 score:sklearn.exceptions.UndefinedMetricWarning")
def test_a_score_that_is_no_finite_number_stops_nothing(tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    y = np.arange(24.0)
    for n_epochs in (1, 2):  # goes on, from the folder or from what the process keeps
        reg = LoPARegressor(tiny.backbone(), **faults.SMALL, **options, early_stopping=True)
        reg.set_params(max_iter=n_epochs).fit(TEXTS, y, X_val=TEXTS[:1], y_val=y[:1])
    assert np.isnan(reg.validation_scores_).tolist() == [True, True]  # R2 of one row
    reg.save("reg.zip")
    assert_same_state(sklopa.load("reg.zip", backbone=reg.model), reg)


FORGED = [
    lambda state: state.pop("network"),
    lambda state: state["network"].popitem(),
    lambda state: state["network"].update({"head.bias": state["network"]["head.weight"]}),
    lambda state: state["optimizer"].update(state=[]),
    lambda state: state["optimizer"]["state"]["$dict"].append([99, {}]),
    lambda state: state["optimizer"]["state"]["$dict"][0][1].update(step="x"),
    lambda state: state["schedule"].update(last_epoch=-1),
    lambda state: state["generators"].append(None),
    lambda state: state["course"].update(epoch="2"),
    lambda state: state["course"].update(epoch=7),
    lambda state: state["course"].update(n_summed=3),
    lambda state: state["course"].update(order=state["network"]["head.weight"]),
    lambda state: state["course"].update(more=1),
    lambda state: state["history"].update(epochs=[{"loss": "x"}]),
    lambda state: state["history"].update(epochs=[{}]),
    lambda state: state["history"].update(interrupted=True),
    lambda state: state["history"].update(best={}),
    lambda state: state["watch"].update(best=None),
    lambda state: state.update(watch=3),
    lambda state: state.update(rows_at_once=0),
]  # fmt: skip


@pytest.mark.parametrize("forge", FORGED)
def test_a_forged_state_is_refused_before_it_is_used(tmp_path, forge):
    faults.classifier(max_iter=1, checkpoint_dir=tmp_path).fit(TEXTS, LABELS)
    manifest, tensors = read_archive(tmp_path)
    del manifest["sha256"]
    forge(manifest["state"])
    files.write(tmp_path, manifest, tensors)
    with raises(ValueError, "cannot be read", str(tmp_path)):
        faults.classifier(max_iter=2, checkpoint_dir=tmp_path).fit(TEXTS, LABELS)


def test_a_state_of_before_there_was_a_choice_of_schedules_goes_on(tmp_path):
    faults.classifier(max_iter=1, checkpoint_dir=tmp_path).fit(TEXTS, LABELS)
    manifest, tensors = read_archive(tmp_path)
    del manifest["checkpoint"]["parameters"]["schedule"], manifest["sha256"]
    for name in ("sums", "n_summed"):
        del manifest["state"]["course"][name]
    files.write(tmp_path, manifest, tensors)
    more = faults.classifier(max_iter=2, checkpoint_dir=tmp_path).fit(TEXTS, LABELS)
    assert more.n_iter_ == 2
    other = faults.classifier(max_iter=2, schedule="constant", checkpoint_dir=tmp_path)
    with raises(ValueError, "schedule='linear' (now 'constant')"):
        other.fit(TEXTS, LABELS)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_a_killed_fit_goes_on_and_ends_with_the_same_bits():
    outcome = faults.killed_fits(3)
    assert outcome.tried >= 3
    assert not outcome.lost


@pytest.mark.stress
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
@pytest.mark.parametrize("options", [{}, {"early_stopping": True, "checkpoint_every": None}])
def test_fits_killed_at_random_moments_end_with_the_same_bits(options):
    outcome = faults.killed_fits(25, **options)
    assert outcome.tried >= 25
    assert not outcome.lost


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
@pytest.mark.parametrize("name", ["clf.zip", "clf"])
@pytest.mark.parametrize("n", [3, pytest.param(40, marks=pytest.mark.stress)])
def test_a_killed_save_leaves_the_old_archive_or_the_new_one(name, n):
    outcome = faults.killed_saves(n, name)
    assert outcome.tried == n
    assert not outcome.lost
