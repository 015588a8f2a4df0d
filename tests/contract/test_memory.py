"""`memory=`: instance embeddings in a folder, shared by processes, and never a wrong number."""

import os
import subprocess
import sys
import threading

import joblib
import numpy as np
import pytest
import tiny

from sklopa import LoPAClassifier, cache_clear, cache_info
from sklopa._cache.disk import DiskStore

KEYS = [bytes([i]) * 16 for i in range(6)]


def array(i):
    return np.full(4, i, dtype=np.float32)


@pytest.fixture
def store(tmp_path):
    made = DiskStore(tmp_path, "name")
    made.put({key: array(i) for i, key in enumerate(KEYS[:4])})
    return made


def test_another_store_on_the_folder_finds_what_was_put(store, tmp_path):
    found = DiskStore(tmp_path, "name").get([KEYS[3], KEYS[1], KEYS[5]])
    assert set(found) == {KEYS[3], KEYS[1]}
    np.testing.assert_array_equal(found[KEYS[3]], array(3))
    assert DiskStore(tmp_path, "other").get(KEYS) == {}


def test_later_files_are_seen_and_deleted_ones_are_gone(store, tmp_path):
    DiskStore(tmp_path, "name").put({KEYS[5]: array(5)})
    assert set(store.get(KEYS)) == {*KEYS[:4], KEYS[5]}
    for path in store.folder.iterdir():
        path.unlink()
    assert store.get(KEYS) == {}


def test_damaged_files_count_as_not_there(store, tmp_path):
    (path,) = store.folder.iterdir()
    whole = path.read_bytes()
    random = np.random.RandomState(0)
    for _ in range(200):
        damaged = bytearray(whole)
        where = random.randint(len(whole))
        if random.rand() < 0.5:
            damaged = damaged[:where]
        else:
            damaged[where] ^= 1 << random.randint(8)
        path.write_bytes(damaged)
        for key, value in DiskStore(tmp_path, "name").get(KEYS).items():
            np.testing.assert_array_equal(value, array(KEYS.index(key)))


def test_folder_that_cannot_be_made_costs_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    store = DiskStore(tmp_path / "file", "name")
    with pytest.warns(UserWarning, match=r"memory='.*file' cannot be written"):
        store.put({KEYS[0]: array(0)})
    assert store.get(KEYS) == {}


def test_threads_may_write_and_read_at_once(tmp_path):
    def work(i):
        store = DiskStore(tmp_path, "name")
        store.put({KEYS[i]: array(i)})
        store.get(KEYS)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = DiskStore(tmp_path, "name").get(KEYS)
    assert {key: value[0] for key, value in found.items()} == dict(zip(KEYS, range(6), strict=True))


def make(folder, memory):
    return LoPAClassifier(
        folder, prompt_length=2, rank=1, bottleneck=4, max_iter=1, random_state=0, memory=memory
    )


@pytest.mark.parametrize("kind", [str, lambda path: joblib.Memory(path, verbose=0)])
def test_texts_are_embedded_once_for_all_processes(tiny_folder, tmp_path, reviews, kind):
    texts, labels = reviews
    cache_clear()
    first = make(tiny_folder, kind(tmp_path / "cache")).fit(texts, labels)
    assert cache_info().misses == len(set(texts))
    cache_clear()  # as in a new process
    again = make(tiny_folder, kind(tmp_path / "cache")).fit(texts, labels)
    assert cache_info().misses == 0
    assert cache_info().hits > 0
    plain = make(tiny_folder, None).fit(texts, labels)
    for other in (again, plain):
        np.testing.assert_array_equal(other.predict_proba(texts), first.predict_proba(texts))


def test_a_folder_gets_what_the_process_already_knew(tiny_folder, tmp_path, reviews):
    clf = LoPAClassifier(tiny_folder, prompt_length=2, rank=2, max_iter=1)
    clf.fit(*reviews)
    clf.set_params(memory=tmp_path).fit(*reviews)
    (path,) = tmp_path.rglob("*.npz")
    clf.predict(reviews[0])
    assert list(tmp_path.rglob("*.npz")) == [path]  # it lacks nothing any more
    cache_clear()
    clf.fit(*reviews)
    assert cache_info().misses == 0


def test_what_a_folder_lacks_is_asked_of_new_files_first(store, tmp_path):
    DiskStore(tmp_path, "name").put({KEYS[5]: array(5)})
    assert store.lacking([KEYS[0], KEYS[4], KEYS[5]]) == [KEYS[4]]


@pytest.mark.stress
def test_a_model_that_was_saved_anew_is_another_model(tmp_path, reviews):
    tiny.save(tmp_path / "model")
    cache_clear()
    make(tmp_path / "model", tmp_path / "cache").fit(*reviews)
    script = (
        "import sys; from sklopa import LoPAClassifier, cache_info\n"
        "clf = LoPAClassifier(sys.argv[1], prompt_length=2, rank=1, memory=sys.argv[2])\n"
        "clf.fit(['the film was good', 'the film was bad'], [0, 1]); print(cache_info().misses)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "model"), str(tmp_path / "cache")]

    def misses():
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        return int(subprocess.run(command, capture_output=True, env=environment, check=True).stdout)

    assert misses() == 0
    tiny.save(tmp_path / "model", seed=1)
    assert misses() == 2


def test_live_objects_are_kept_in_the_process_only(tmp_path, reviews):
    make(tiny.backbone(), tmp_path / "cache").fit(*reviews)
    assert not (tmp_path / "cache").exists()


@pytest.mark.stress
def test_predictions_of_many_texts_take_no_more_memory_than_those_of_few(tiny_folder):
    script = (
        "import resource, sys\n"
        "from sklopa import LoPAClassifier\n"
        "from sklopa._cache import process\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "process.EMBEDDINGS.max_bytes = process.TOKENS.max_bytes = 1 << 20  # full at once\n"
        "texts = ['the film was good and red ' * (1 + i % 5) + str(i) for i in range(40_000)]\n"
        "clf = LoPAClassifier(sys.argv[1], prompt_length=2, rank=1, max_iter=1)\n"
        "clf.fit(texts[:8], [0, 1] * 4).predict(texts[:10_000])\n"
        "few = peak(); clf.predict(texts[10_000:]); print(peak() - few)\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", script, tiny_folder]
    done = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert int(done.stdout) < 20 << 10  # KiB, for 30 000 texts


def test_a_folder_that_cannot_be_written_is_told_of_when_nothing_is_new(
    make_classifier, tiny_folder, reviews, tmp_path
):
    path = tmp_path / "file"
    path.write_text("mine")
    options = {"model": tiny_folder, "max_iter": 1}
    make_classifier(**options).fit(*reviews)  # all embeddings are in the process
    with pytest.warns(UserWarning, match=r"memory='.*file' cannot be written") as caught:
        make_classifier(memory=path, **options).fit(*reviews)
    assert len([w for w in caught if "cannot be written" in str(w.message)]) == 1


def test_live_objects_have_no_name_to_keep_embeddings_under(make_classifier, reviews, tmp_path):
    with pytest.warns(UserWarning, match=r"memory=.* has no effect .*live objects"):
        make_classifier(memory=tmp_path, max_iter=1).fit(*reviews)
    assert not list(tmp_path.iterdir())
