"""Trouble around an estimator: each case asserts a right result or one of our own errors."""

import errno
import os
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import faults
import numpy as np
import pytest
import tiny
from helpers import CLOSE, assert_same_state, design_of, raises

import sklopa
from sklopa import Backbone, LoPAClassifier
from sklopa._backbone.language import FrozenLanguageModel
from sklopa.errors import ArchiveWarning, BatchSizeWarning

TEXTS, LABELS = faults.TEXTS, faults.LABELS
FULL = OSError(errno.ENOSPC, "No space left on device")
CASES = {}


def case(run):
    """Make a function one of the cases, under its name."""
    CASES[run.__name__] = run
    return run


def fitted(folder=None, **options):
    """A fitted classifier, on a model in `folder` if there is one."""
    model = tiny.backbone() if folder is None else tiny.save(folder / "model")
    return LoPAClassifier(model, **faults.SMALL, max_iter=2, **options).fit(TEXTS, LABELS)


def little_memory(n_rows):
    """A backbone that takes no more than so many rows."""
    states = FrozenLanguageModel.states

    def limited(self, inputs):
        if len(inputs.embeds) > n_rows:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return states(self, inputs)

    return patch.object(FrozenLanguageModel, "states", limited)


# ---------------------------------------------------------------- memory


@case
def memory_runs_out_in_training(folder):
    sklopa.cache_clear()
    expected = fitted().predict_proba(TEXTS)
    sklopa.cache_clear()
    with little_memory(2), pytest.warns(BatchSizeWarning):
        found = fitted().predict_proba(TEXTS)
    # Sums of gradients in another order, over all steps.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


@case
def memory_runs_out_in_prediction(folder):
    clf = fitted()
    expected = clf.predict_proba(TEXTS)
    with little_memory(3), pytest.warns(BatchSizeWarning):
        np.testing.assert_allclose(clf.predict_proba(TEXTS), expected, **CLOSE)


@case
def memory_is_too_small_for_one_row(folder):
    clf = fitted()
    with little_memory(0), warnings.catch_warnings():
        warnings.simplefilter("ignore", BatchSizeWarning)
        with raises(MemoryError, "single row"):
            clf.predict(TEXTS)
    assert len(clf.predict(TEXTS)) == len(TEXTS)


# ---------------------------------------------------------------- disks


def _disk_full_while_saving(folder, name, **options):
    old, new = fitted(), fitted(weight_decay=0.5)
    old.save(folder / name, **options)
    with patch("os.fsync", side_effect=FULL), raises(OSError, "No space left", "unchanged"):
        new.save(folder / name, **options)
    assert_same_state(sklopa.load(folder / name, backbone=old.model), old)
    assert not list(folder.rglob("*.part"))


@case
def disk_full_while_saving_a_zip_file(folder):
    _disk_full_while_saving(folder, "clf.zip")


@case
def disk_full_while_saving_a_folder(folder):
    _disk_full_while_saving(folder, "clf")


@case
def disk_full_while_saving_the_backbone(folder):
    with (
        patch("sklopa._storage.files.hash_files", side_effect=FULL),
        raises(OSError, "No space left"),
    ):
        fitted().save(folder / "clf", include_backbone=True)
    assert not (folder / "clf").exists()


@case
def disk_full_while_caching(folder):
    expected = fitted(folder).predict_proba(TEXTS)
    sklopa.cache_clear()
    with patch("numpy.savez", side_effect=FULL), pytest.warns(UserWarning, match="No space left"):
        found = fitted(folder, memory=folder / "memory").predict_proba(TEXTS)
    np.testing.assert_allclose(found, expected, **CLOSE)


@case
def disk_full_while_writing_a_checkpoint(folder):
    expected = faults.classifier().fit(TEXTS, LABELS)
    with patch("os.fsync", side_effect=FULL), raises(OSError, "No space left"):
        faults.classifier(checkpoint_dir=folder / "c").fit(TEXTS, LABELS)
    clf = faults.classifier(checkpoint_dir=folder / "c").fit(TEXTS, LABELS)
    assert_same_state(clf, expected)


def _cached(folder, spoil):
    """Spoil cache files between fit and predict, which has to notice."""
    clf = fitted(folder, memory=folder / "memory")
    expected = clf.predict_proba(TEXTS)
    files = list((folder / "memory").rglob("*.npz"))
    assert files
    for path in files:
        spoil(path)
    sklopa.cache_clear()
    np.testing.assert_allclose(clf.predict_proba(TEXTS), expected, **CLOSE)


@case
def cache_file_damaged_under_way(folder):
    def spoil(path):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)

    _cached(folder, spoil)


@case
def cache_file_cut_short_under_way(folder):
    _cached(folder, lambda path: path.write_bytes(path.read_bytes()[:50]))


@case
def cache_file_deleted_under_way(folder):
    _cached(folder, Path.unlink)


@case
def cache_file_emptied_under_way(folder):
    _cached(folder, lambda path: path.write_bytes(b""))


def _closed(folder):
    """A path below a file: nobody may write there, the administrator neither."""
    (folder / "file").write_text("")
    return folder / "file" / "below"


@case
def no_permission_to_save(folder):
    with raises(OSError, "could not be written"):
        fitted().save(_closed(folder) / "clf.zip")


@case
def no_permission_to_save_a_folder(folder):
    with raises(OSError, "could not be written"):
        fitted().save(_closed(folder) / "clf")


@case
def no_permission_to_write_a_checkpoint(folder):
    with raises(OSError, "checkpoint_dir", "cannot be written"):
        faults.classifier(checkpoint_dir=_closed(folder)).fit(TEXTS, LABELS)


@case
def no_permission_to_cache(folder):
    closed = _closed(folder)
    with pytest.warns(UserWarning, match="cannot be written"):
        clf = fitted(folder, memory=closed)
    assert len(clf.predict(TEXTS)) == len(TEXTS)


# ---------------------------------------------------------------- processes


def _in_children(n, run):
    """`run(i)` in `n` processes at once; all must end well."""
    pids = []
    for i in range(n):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                run(i)
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * n


@case
def processes_share_a_cache_folder(folder):
    expected = fitted(folder)
    sklopa.cache_clear()

    def run(i):
        fitted(folder, memory=folder / "memory").save(folder / f"{i}.zip")

    _in_children(4, run)
    for i in range(4):
        assert_same_state(sklopa.load(folder / f"{i}.zip"), expected)


@case
def two_processes_want_one_checkpoint_folder(folder):
    """The second is refused at once, and the first ends as it would have alone."""
    refused = []

    def other(*args):
        with raises(ValueError, "in use by another fit"):
            faults.classifier(checkpoint_dir=folder / "c").fit(TEXTS, LABELS)
        refused.append(1)

    expected = faults.classifier().fit(TEXTS, LABELS)
    start = LoPAClassifier._fresh_network

    def started(self, *args):
        _in_children(1, other)
        refused.append(1)
        return start(self, *args)

    with patch.object(LoPAClassifier, "_fresh_network", started):
        clf = faults.classifier(checkpoint_dir=folder / "c").fit(TEXTS, LABELS)
    assert refused
    assert_same_state(clf, expected)


@case
def processes_save_to_one_path(folder):
    clf = fitted()
    for name in ("clf.zip", "clf"):
        _in_children(4, lambda i, name=name: [clf.save(folder / name) for _ in range(5)])
        assert_same_state(sklopa.load(folder / name, backbone=clf.model), clf)


@case
def fork_after_use(folder):
    clf = fitted()
    expected = clf.predict_proba(TEXTS)

    def run(i):
        np.testing.assert_array_equal(clf.predict_proba(TEXTS), expected)
        assert_same_state(fitted(), clf)

    _in_children(2, run)


# ---------------------------------------------------------------- threads


def _in_threads(jobs):
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda job: job(), jobs))


@case
def eight_threads_predict_with_one_estimator(folder):
    clf = pickle.loads(pickle.dumps(fitted(folder)))  # its network is not built yet
    Backbone.release_all()
    sklopa.cache_clear()
    results = _in_threads([lambda: clf.predict_proba(TEXTS)] * 32)
    expected = clf.predict_proba(TEXTS)
    for found in results:
        np.testing.assert_allclose(found, expected, **CLOSE)


@case
def eight_threads_predict_with_estimators_that_share_a_backbone(folder):
    kinds = [{}, {"depth": "deep"}, {"rank": 0}, {"gate": "concat"}]
    several = [faults.classifier(**kind).fit(TEXTS, LABELS) for kind in kinds]
    expected = [clf.predict_proba(TEXTS) for clf in several]
    sklopa.cache_clear()
    jobs = [lambda clf=clf: clf.predict_proba(TEXTS) for clf in several] * 8
    for i, found in enumerate(_in_threads(jobs)):
        np.testing.assert_allclose(found, expected[i % len(several)], **CLOSE)


@case
def threads_fit_at_the_same_time(folder):
    expected = fitted()
    for clf in _in_threads([fitted] * 8):
        assert_same_state(clf, expected)


# ---------------------------------------------------------------- other devices


@case
def pickled_in_one_precision_and_used_in_another(folder):
    clf = fitted(folder)
    loaded = pickle.loads(pickle.dumps(clf))
    other = replace(design_of(clf).backbone, dtype="bfloat16")
    state = loaded.__getstate__()
    state["_design"] |= {"backbone": other, "encoder": other}
    loaded.__setstate__(state)
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), clf.predict_proba(TEXTS), atol=0.05)


@case
def saved_in_one_precision_and_loaded_in_another(folder):
    model = tiny.save(folder / "model")
    clf = LoPAClassifier(Backbone(model, dtype="bfloat16"), **faults.SMALL, max_iter=2)
    clf.fit(TEXTS, LABELS).save(folder / "clf.zip")
    with pytest.warns(ArchiveWarning, match="bfloat16 at fit"):
        loaded = sklopa.load(folder / "clf.zip", backbone=model)
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), clf.predict_proba(TEXTS), atol=0.05)


@case
def saved_on_a_device_that_is_not_here(folder):
    clf = fitted(folder)
    clf.device_ = "cuda:7"
    clf.save(folder / "clf.zip")
    loaded = sklopa.load(folder / "clf.zip")
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), clf.predict_proba(TEXTS))
