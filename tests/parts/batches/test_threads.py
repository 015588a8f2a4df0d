"""torch's threads: no more than there are CPUs for, the faster number, and left as found."""

import threading
import warnings

import joblib
import numpy as np
import pytest
import torch
from helpers import weights_of

from sklopa._batches import threads as module
from sklopa._batches.threads import VARIABLE, threads
from sklopa.errors import BusyMachineWarning, InvalidParameter


@pytest.fixture(autouse=True)
def _found(monkeypatch):
    """Four threads of torch on a machine of eight CPUs that does nothing else."""
    before = torch.get_num_threads()
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    monkeypatch.setattr(module, "_seconds", lambda n: 1.0 / n)
    monkeypatch.setattr(module, "_measured_at", float("-inf"))
    monkeypatch.setattr(module, "_told", False)
    torch.set_num_threads(4)
    yield
    assert torch.get_num_threads() == 4  # as found
    torch.set_num_threads(before)


@pytest.fixture
def busy(monkeypatch):
    """Other programs have the CPUs; how often it was measured."""
    measured = []

    def seconds(n):
        measured.append(n)
        return 10.0 if n > 1 else 1.0

    monkeypatch.setattr(module, "_seconds", seconds)
    return measured


def within(random_state=None, n_rows=None):
    with threads(random_state, n_rows):
        return torch.get_num_threads()


def test_on_a_machine_that_does_nothing_else_all_threads_are_used():
    assert within() == within(0) == within(None, 10_000) == 4


def test_there_are_no_more_threads_than_cpus_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 2)  # by affinity and quota
    assert within(0) == 2
    monkeypatch.setattr(joblib, "cpu_count", lambda: 1)
    assert within(0) == 1


def test_on_a_busy_machine_the_faster_number_is_taken(busy):
    assert within() == 1


def test_a_fit_that_promises_the_same_bits_keeps_its_threads_and_says_so_once(busy):
    with pytest.warns(BusyMachineWarning, match=r"4 threads .* 10 times .*SKLOPA_NUM_THREADS=1"):
        assert within(0) == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert within(np.random.RandomState(0)) == 4


def test_it_is_measured_once_for_many_fits_and_never_for_a_few_rows(busy, monkeypatch):
    assert within(None, 3) == 4
    assert not busy
    assert [within(), within(), within(None, 3)] == [1, 1, 1]
    assert busy == [4, 1]
    now = module.time.monotonic() + 60
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    assert within(None, 3) == 4  # what was measured holds no longer
    assert within(None, 10_000) == 1
    assert busy == [4, 1, 4, 1]


def test_who_knows_better_is_obeyed(monkeypatch, busy):
    for asked in (1, 2, 7):
        monkeypatch.setenv(VARIABLE, str(asked))
        assert within(0) == within() == asked
    assert not busy
    for asked in ("0", "-1", "two", "1.5"):
        monkeypatch.setenv(VARIABLE, asked)
        with pytest.raises(InvalidParameter, match=f"{VARIABLE} must be an integer >= 1"):
            within()


def test_the_work_that_is_measured_takes_time(monkeypatch):
    monkeypatch.undo()
    torch.set_num_threads(4)
    assert 0 < module._seconds(1) < 60
    torch.set_num_threads(4)


def test_what_was_found_comes_back_after_an_error_and_from_within(monkeypatch):
    monkeypatch.setenv(VARIABLE, "2")

    def fail():
        with threads(0), threads(None):
            assert torch.get_num_threads() == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()


def test_fits_in_several_threads_leave_what_the_first_one_found(monkeypatch):
    monkeypatch.setenv(VARIABLE, "2")
    inside, first_is_done = threading.Barrier(2), threading.Event()
    seen = {}

    def fit(waits):
        with threads(0):
            inside.wait(10)
            if waits:
                first_is_done.wait(10)
            assert torch.get_num_threads() == 2
        seen[waits] = torch.get_num_threads()
        first_is_done.set()

    runs = [threading.Thread(target=fit, args=(waits,)) for waits in (False, True)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(20)
    assert seen == {False: 2, True: 4}  # the last one puts back what there was


def test_a_fit_that_promises_the_same_bits_has_its_threads_beside_one_that_does_not(busy):
    with threads(None):
        assert torch.get_num_threads() == 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BusyMachineWarning)
            with threads(0), threads(None):
                assert torch.get_num_threads() == 4


@pytest.mark.parametrize("method", ["fit", "partial_fit", "predict", "transform", "ablate"])
def test_every_method_that_runs_the_network_does_so_with_the_chosen_threads(
    monkeypatch, make_classifier, reviews, method
):
    monkeypatch.setenv(VARIABLE, "3")
    clf, seen = make_classifier(max_iter=1).fit(*reviews), set()
    states = type(clf._fitted_network().live().frozen).states

    def watched(self, *args):
        seen.add(torch.get_num_threads())
        return states(self, *args)

    monkeypatch.setattr(type(clf._fitted_network().live().frozen), "states", watched)
    data = reviews if method in ("fit", "partial_fit", "ablate") else reviews[:1]
    getattr(clf, method)(*data)
    assert seen == {3}


def test_the_bits_of_a_fit_do_not_depend_on_the_load(busy, make_classifier, reviews, monkeypatch):
    with pytest.warns(BusyMachineWarning):
        on_a_busy_machine = make_classifier().fit(*reviews)
    monkeypatch.setattr(module, "_seconds", lambda n: 1.0 / n)
    monkeypatch.setattr(module, "_measured_at", float("-inf"))
    idle = make_classifier().fit(*reviews)
    for name, value in weights_of(idle).items():
        np.testing.assert_array_equal(value, weights_of(on_a_busy_machine)[name])
