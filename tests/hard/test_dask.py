"""A search on a cluster: the same scores, one model a worker, shared embeddings, and a death."""

import os
import signal
import threading
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
from distributed import Client, LocalCluster
from sklearn.model_selection import GridSearchCV

from sklopa import LoPAClassifier

pytestmark = [pytest.mark.stress, pytest.mark.server]
GRID = {"rank": [0, 1, 2], "prompt_length": [2, 4]}


@pytest.fixture
def client():
    """Two worker processes on this machine."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        client.wait_for_workers(2)
        yield client


def search(folder, memory=None, **options):
    options = {"bottleneck": 4, "max_iter": 2, "random_state": 0} | options
    return GridSearchCV(LoPAClassifier(folder, memory=memory, **options), GRID, cv=3)


def scores(fitted):
    return [fitted.cv_results_[f"split{i}_test_score"].tolist() for i in range(3)]


def count_loads():
    """In a worker: count from here on how often a model is read."""
    from sklopa._loading import live

    read = live._read
    live.loads = 0

    def counted(*arguments):
        live.loads += 1
        return read(*arguments)

    live._read = counted


def state():
    from sklopa import cache_info
    from sklopa._loading import live

    return live.loads, cache_info().misses


def forget():
    import sklopa

    sklopa.cache_clear()


def test_scores_are_the_local_ones_with_one_model_a_worker_and_shared_embeddings(
    client, tiny_folder, reviews, tmp_path
):
    expected = search(tiny_folder).fit(*reviews)
    client.run(count_loads)
    with joblib.parallel_config("dask"):
        found = search(tiny_folder, tmp_path / "cache").fit(*reviews)
    assert scores(found) == scores(expected)
    assert found.predict(reviews[0]).tolist() == expected.predict(reviews[0]).tolist()
    seen = client.run(state)
    assert all(loads <= 1 for loads, _ in seen.values())
    assert any(loads == 1 for loads, _ in seen.values())
    client.run(forget)
    with joblib.parallel_config("dask"):
        again = search(tiny_folder, tmp_path / "cache").fit(*reviews)
    assert scores(again) == scores(expected)
    assert {misses for _, misses in client.run(state).values()} == {0}


def test_a_search_outlives_the_death_of_a_worker(client, tiny_folder, reviews, tmp_path):
    options = {"max_iter": 20, "n_iter_no_change": 20}  # long enough to die in
    expected = search(tiny_folder, **options).fit(*reviews)
    pids, killed = list(client.run(os.getpid).values()), []

    def kill_one():
        while not list(Path(tmp_path).rglob("*.npz")):  # a candidate is being fitted
            time.sleep(0.01)
        os.kill(pids[0], signal.SIGKILL)
        killed.append(pids[0])

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    with joblib.parallel_config("dask"):
        found = search(tiny_folder, tmp_path, **options).fit(*reviews)
    killer.join(5)
    assert killed
    assert pids[0] not in client.run(os.getpid).values()  # another has taken its place
    assert scores(found) == scores(expected)
    assert np.isfinite(scores(found)).all()
