"""What is written is ours alone, and read as it was when it was looked at."""

import hashlib
import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import named, raises

from sklopa._cache.disk import DiskStore
from sklopa._storage import files, lock, read
from sklopa._storage.checkpoint import identify, open_checkpoint
from sklopa._storage.hub import looks_like_repository
from sklopa._storage.model_files import check_model_settings
from sklopa.errors import CheckpointMismatch, InvalidArchive, NotWritten

MANIFEST = {"format": 1, "estimator": "x", "attributes": {"n_trainable_parameters_": 3}}
OLD, NEW = b"\x08" + bytes(40), b"\x09" + bytes(50)
needs_links = pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="links are followed here")
needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def archive(tmp_path):
    """A folder with an archive."""
    files.write(tmp_path / "a", MANIFEST, OLD)
    return tmp_path / "a"


# ---------------------------------------------------------------- what is not ours

FOREIGN = {
    "another table": b'{"name": "my app"}',
    "no JSON": b"mine",
    "a list": b"[1]",
    "another hash": json.dumps(MANIFEST | {"weights": {}, "sha256": "0"}).encode(),
    "very many tables": b"[" + b"{}," * files.MOST_TABLES + b"{}]",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_somebody_elses_manifest_is_left_alone(tmp_path, kind):
    (tmp_path / "manifest.json").write_bytes(FOREIGN[kind])
    (tmp_path / "weights-0123456789abcdef.safetensors").write_bytes(b"mine")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with raises(OSError, "manifest.json", "nothing was written"):
        files.write(tmp_path, MANIFEST, OLD)
    with raises(OSError, "manifest.json", "nothing was written"), open_checkpoint(tmp_path, 1, {}):
        pass
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


ALIEN = (
    "weights-of-my-thesis.tar.part", "manifest.json.bak.part", "backbone.part", "README.md",
    "weights-0123456789abcdef.safetensors",
)  # fmt: skip
ALIEN_FOLDERS = ("encoder.onnx.part", "backbone-0123456789abcdef")


def test_only_names_of_our_own_form_and_content_are_removed(archive):
    for name in ALIEN:
        (archive / name).write_text("mine")
    for name in ALIEN_FOLDERS:
        (archive / name).mkdir()
        (archive / name / "kept").write_text("mine")
    left_over = b"of a writer that was killed"
    digest = hashlib.sha256(left_over).hexdigest()
    for name in ("manifest.json.0123456789abcdef.part", f"weights-{digest[:16]}.safetensors"):
        (archive / name).write_bytes(left_over)
    (archive / "backbone-0123456789abcdef.part").mkdir()
    files.write(archive, MANIFEST, NEW)
    weights = read.read_archive(archive)[0]["weights"]["file"]
    assert names_in(archive) == sorted([*ALIEN, *ALIEN_FOLDERS, "manifest.json", weights])


def test_a_folder_with_a_file_that_only_has_our_name_is_left_alone(tmp_path):
    (tmp_path / "weights-0123456789abcdef.safetensors").write_text("mine")
    with raises(NotWritten, "weights-0123456789abcdef", "nothing was written"):
        files.write(tmp_path, MANIFEST, OLD)
    assert names_in(tmp_path) == ["weights-0123456789abcdef.safetensors"]


def test_weights_that_were_damaged_go_with_their_manifest(archive):
    damaged = archive / read.read_archive(archive)[0]["weights"]["file"]
    damaged.write_bytes(b"damaged")
    files.write(archive, MANIFEST, NEW)
    assert damaged.name not in names_in(archive)


def test_a_writer_that_fails_removes_what_it_made_and_no_more(archive, monkeypatch):
    before, put = names_in(archive), files.put

    def fail(path, data):
        if path.name == "manifest.json":
            raise OSError("full")
        put(path, data)

    monkeypatch.setattr(files, "put", fail)
    for folder in (archive, archive.parent / "b"):
        with raises(OSError, "full"):
            files.write(folder, MANIFEST, NEW)
    assert names_in(archive) == before
    assert read.read_archive(archive)[1] == OLD
    assert names_in(archive.parent) == ["a"]


def test_a_first_writer_that_fails_leaves_what_another_put_there(tmp_path, monkeypatch):
    def fail(path, data):
        (path.parent / "theirs.txt").write_text("theirs")
        raise OSError("full")

    monkeypatch.setattr(files, "put", fail)
    with pytest.raises(NotWritten):
        files.write(tmp_path / "new", MANIFEST, NEW)
    assert names_in(tmp_path / "new") == ["theirs.txt"]


def test_a_reader_whose_folder_is_replaced_meanwhile_gets_one_archive_or_the_other(
    archive, monkeypatch
):
    regular, todo = read.read_regular, [NEW, OLD, NEW]

    def interrupted(path, *limits):
        data = regular(path, *limits)
        if path.name == "manifest.json" and todo:  # a writer comes between manifest and weights
            files.write(archive, MANIFEST, todo.pop())
        return data

    monkeypatch.setattr(read, "read_regular", interrupted)
    assert read.read_archive(archive)[1] == NEW


@pytest.mark.parametrize("name", ["x.zip", "X.ZIP", "x.Zip"])
def test_a_zip_file_is_known_by_its_ending_in_any_case(tmp_path, name):
    stale, alien = tmp_path / f"{name}.0123456789abcdef.part", tmp_path / f"{name}.mine.part"
    stale.write_text("of a writer that was killed")
    alien.write_text("mine")
    files.write(tmp_path / name, MANIFEST, OLD)
    assert zipfile.is_zipfile(tmp_path / name)
    assert names_in(tmp_path) == sorted([name, alien.name])
    assert read.read_archive(tmp_path / name)[1] == OLD


# ---------------------------------------------------------------- links, pipes, devices


@needs_links
def test_nothing_is_written_through_a_link(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "lock").symlink_to(precious)
    with pytest.raises(NotWritten), open_checkpoint(folder, 1, {}):
        pass
    assert precious.read_text() == "mine"
    (folder / "lock").unlink()
    (folder / "manifest.json").symlink_to(precious)
    with pytest.raises(NotWritten):
        files.write(folder, MANIFEST, OLD)
    assert precious.read_text() == "mine"


def test_a_lock_file_keeps_its_content_and_one_holder(tmp_path):
    (tmp_path / "lock").write_text("whatever")
    held = lock.locked(tmp_path / "lock", wait=False)
    with held, pytest.raises(lock.Busy), lock.locked(tmp_path / "lock", wait=False):
        pass
    with lock.locked(tmp_path / "lock", wait=False):
        assert (tmp_path / "lock").read_text() == "whatever"


def test_unfinished_files_have_names_that_nobody_guesses(tmp_path, monkeypatch):
    seen, opened = [], os.open

    def watched(path, flags, *mode):
        if str(path).endswith(".part"):
            assert flags & os.O_EXCL
            assert not flags & os.O_TRUNC
            seen.append(Path(path).name)
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", watched)
    for _ in range(2):
        files.write(tmp_path / "a.zip", MANIFEST, OLD)
    assert len(set(seen)) == 2
    assert all(re.fullmatch(r"a\.zip\.[0-9a-f]{16}\.part", name) for name in seen)


@needs_pipes
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_not_read(archive, kind):
    path = archive / read.read_archive(archive)[0]["weights"]["file"]
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with raises(ValueError, "no regular file"):
        read.read_archive(archive)


# ---------------------------------------------------------------- sizes


def test_weights_larger_than_what_was_trained_are_refused_before_they_are_read(archive):
    path = archive / read.read_archive(archive)[0]["weights"]["file"]
    os.truncate(path, 6 << 30)  # of holes
    with raises(ValueError, "over the limit"):
        read.read_archive(archive)


def test_a_file_of_holes_is_refused_by_its_first_bytes(archive, monkeypatch):
    path = archive / read.read_archive(archive)[0]["weights"]["file"]
    path.write_bytes(bytes(1 << 20))
    regular = read.read_regular

    def watched(path, limit, n_bytes):
        assert path.name == "manifest.json" or n_bytes == 8
        return regular(path, limit, n_bytes)

    monkeypatch.setattr(read, "read_regular", watched)
    with raises(ValueError, "no header"):
        read.read_archive(archive)


@pytest.mark.parametrize(
    "data", [b"[" + b"{}," * files.MOST_TABLES + b"{}]", b" " * (files.MOST_MANIFEST_BYTES + 1)]
)
def test_a_manifest_of_too_much_is_refused_before_it_is_parsed(archive, data, monkeypatch):
    (archive / "manifest.json").write_bytes(data)
    monkeypatch.setattr(json, "loads", None)
    with raises(ValueError, "over the limit"):
        read.read_archive(archive)


def test_nothing_is_saved_that_would_be_too_much_to_load(tmp_path):
    with raises(ValueError, "over the limit"):
        files.write(tmp_path / "a", MANIFEST | {"more": [[]] * files.MOST_TABLES}, OLD)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- settings of a model


@pytest.mark.parametrize(
    "settings",
    [
        {"auto_map": {"AutoModel": "modeling.Model"}}, {"_attn_implementation": "me/kernel"},
        {"attn_implementation": "me/kernel"}, {"text_config": {"_attn_implementation": "me/k"}},
        {"attn_implementation": {"": "sdpa", "vision": "me/kernel"}}, {"a": [{"auto_map": 1}]},
    ],
    ids=named,
)  # fmt: skip
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_settings_that_run_code_are_refused(tmp_path, settings, name):
    (tmp_path / name).write_text(json.dumps(settings))
    with pytest.raises(InvalidArchive):
        check_model_settings(tmp_path)
    (tmp_path / name).write_text(json.dumps({"_attn_implementation": "sdpa", "hidden_size": 3}))
    check_model_settings(tmp_path)


# ---------------------------------------------------------------- the hub is asked for ids alone

PATHS = [
    "./runs/clf", "./runs/clf.zip", "runs/clf.zip", "runs/CLF.ZIP", "/runs/clf", "../a/b", "a\\b/c",
    "a/b/c", "clf", "~/clf", ".a/b", "a/.b", "C:/clf", "a/b\n", "", Path("me/mine"),
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=named)
def test_a_missing_path_stays_a_path(path):
    assert not looks_like_repository(path)


def test_what_is_written_as_an_id_is_one(tmp_path, monkeypatch):
    assert looks_like_repository("me/mine")
    assert looks_like_repository("me-2/my.model_v1")
    monkeypatch.chdir(tmp_path)
    Path("me/mine").mkdir(parents=True)
    assert not looks_like_repository("me/mine")


@pytest.mark.parametrize("name", ["x.joblib", "me/x.pkl", "x.PICKLE", "x.skops"])
def test_other_kinds_of_files_are_told_what_reads_them(name):
    import sklopa

    with raises(ValueError, name, "skops.io.load" if name.endswith("skops") else "joblib.load"):
        sklopa.load(name)


# ---------------------------------------------------------------- checkpoints


def test_numbers_of_numpy_are_the_same_parameters(tmp_path):
    def identity(rank):
        return identify("x", {"rank": rank}, data=0, start=None, models=[])

    assert identity(np.int64(1)) == identity(1)
    with open_checkpoint(tmp_path, None, identity(1)) as kept:
        kept.write({"a": 1})
    with open_checkpoint(tmp_path, None, identity(np.int64(1))) as kept:
        assert kept.state == {"a": 1}


@pytest.mark.parametrize("seeds", ["abc", [1, 2], [1, 2, "3"], {"a": 1}])
def test_a_checkpoint_with_other_seeds_is_refused(tmp_path, seeds):
    identity = identify("x", {}, data=0, start=None, models=[])
    with open_checkpoint(tmp_path, None, identity) as kept:
        kept.seeds = seeds
        kept.write({"a": 1})
    with raises(ValueError, "seeds"), open_checkpoint(tmp_path, None, identity):
        pass
    assert issubclass(CheckpointMismatch, ValueError)


# ---------------------------------------------------------------- the folder of embeddings

KEY = b"k" * 16


def poisoned(folder, values, kind="npz"):
    """A store with one file that a stranger put there."""
    store = DiskStore(folder, "name", width=4)
    store.put({KEY: np.zeros(4, dtype=np.float32)})
    (path,) = store.folder.iterdir()
    keys = np.frombuffer(KEY, dtype=np.uint8).reshape(1, -1)
    save = np.savez if kind == "npz" else np.savez_compressed
    save(path, keys=keys, values=values)
    return store


GOOD = np.zeros((1, 4), dtype=np.float32)


def test_what_was_put_is_found(tmp_path):
    np.testing.assert_array_equal(poisoned(tmp_path, GOOD).get([KEY])[KEY], GOOD[0])


@pytest.mark.parametrize(
    "values",
    [GOOD.astype("float64"), GOOD.astype("int8"), GOOD[:, :3], GOOD[:0], GOOD + np.nan, GOOD[0]],
    ids=lambda values: f"{values.dtype}-{values.shape}-{values.sum()}",
)
def test_values_that_put_would_not_write_count_as_not_there(tmp_path, values):
    assert poisoned(tmp_path, values).get([KEY]) == {}


def test_packed_values_are_not_unpacked(tmp_path):
    assert poisoned(tmp_path, np.zeros((1, 1 << 20), dtype=np.float32), "packed").get([KEY]) == {}


@needs_pipes
@pytest.mark.parametrize("kind", ["pipe", "device", "link"])
def test_pipes_and_links_in_the_folder_are_passed_over(tmp_path, kind):
    store = poisoned(tmp_path, GOOD)
    (path,) = store.folder.iterdir()
    path.rename(tmp_path / "elsewhere.npz")
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else tmp_path / "elsewhere.npz")
    assert DiskStore(tmp_path, "name").get([KEY]) == {}
