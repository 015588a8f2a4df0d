"""Workers that share a GPU train one after the other, and say so once."""

import threading
import time
import warnings

import pytest
import torch

from sklopa._storage import lock
from sklopa._training import gpu_turns
from sklopa.errors import SharedDeviceWarning

GPU = torch.device("cuda", 0)


@pytest.fixture
def in_a_worker(monkeypatch, tmp_path):
    worker = type("Process", (), {"name": "LokyProcess-1"})
    monkeypatch.setattr(gpu_turns.multiprocessing, "current_process", worker)
    monkeypatch.setattr(lock.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(gpu_turns, "_warned", False)
    return tmp_path


def most_at_once(device, n=4):
    """How many of `n` threads were within their turn at the same time."""
    inside, most, started = [], [], threading.Barrier(n)

    def work():
        started.wait()
        with gpu_turns.turn_on(device):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(most)


@pytest.mark.filterwarnings("ignore::sklopa.errors.SharedDeviceWarning")
def test_one_at_a_time_on_a_gpu_and_all_at_once_on_cpus(in_a_worker):
    assert most_at_once(GPU) == 1
    assert most_at_once(torch.device("cpu")) > 1


def test_a_worker_says_so_once(in_a_worker):
    said = pytest.warns(SharedDeviceWarning, match="cuda:0, so they train in turns")
    with said, gpu_turns.turn_on(GPU):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with gpu_turns.turn_on(GPU):
            pass


def test_a_process_of_its_own_waits_for_nobody_and_writes_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(lock.tempfile, "gettempdir", lambda: str(tmp_path))
    with gpu_turns.turn_on(GPU):
        assert not list(tmp_path.iterdir())
