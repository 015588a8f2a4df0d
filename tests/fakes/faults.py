"""Faults that are made on purpose, and what came of them. Tests and a benchmark run the same code.

Each function returns an `Outcome`. Survived is a right result or one of our own errors; anything
else (a wrong number, another error, a broken file) is lost.
"""

import copy
import json
import os
import random
import signal
import tempfile
import time
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors.numpy
import tiny
import tiny_vision
from helpers import weights_of
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import sklopa
from sklopa import LoPAClassifier, LoPAGenerator, LoPAImageClassifier, LoPARegressor
from sklopa._storage import files
from sklopa._storage.read import read_archive
from sklopa.errors import SklopaError

TEXTS = [f"{word} {thing}" for thing in ("film", "book", "plot") for word in ("good", "bad")] * 4
LABELS = ["pos", "neg"] * 12
SMALL = {"prompt_length": 3, "rank": 2, "bottleneck": 8, "batch_size": 4, "random_state": 0}


@dataclass
class Outcome:
    """Faults tried, and those that were lost, each with what happened."""

    tried: int = 0
    lost: list[str] = field(default_factory=list)

    @property
    def survived(self) -> int:
        return self.tried - len(self.lost)

    def count(self, problem: str | None) -> None:
        """One more fault; `problem` says how it was lost."""
        self.tried += 1
        self.lost += [problem] if problem else []


def classifier(**options) -> LoPAClassifier:
    """A small classifier on a tiny live backbone."""
    return LoPAClassifier(tiny.backbone(), **(SMALL | {"max_iter": 2} | options))


# ---------------------------------------------------------------- files that are damaged


def _mutate(data: bytes, draw) -> bytes:
    """A file with bytes flipped, cut off, left out, doubled or put in."""
    where = draw(st.integers(0, len(data)))
    kind = draw(st.sampled_from(["flip", "cut", "drop", "double", "insert", "many"]))
    length = draw(st.integers(1, 64))
    if kind == "flip" and where < len(data):
        flipped = data[where] ^ (1 << draw(st.integers(0, 7)))
        return data[:where] + bytes([flipped]) + data[where + 1 :]
    if kind == "cut":
        return data[:where]
    if kind == "drop":
        return data[:where] + data[where + length :]
    if kind == "double":
        return data[: where + length] + data[where:]
    if kind == "insert":
        return data[:where] + draw(st.binary(min_size=1, max_size=64)) + data[where:]
    changed = bytearray(data)
    for _ in range(length):
        changed[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(changed)


# What a forger may write anywhere in a manifest.
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 1, 2, 10**6, 10**9, -1, 1e308, "", "../../etc/passwd", "__class__"]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.lists(st.integers(-5, 5), max_size=4),
    st.dictionaries(st.sampled_from(["$array", "$dict", "$tuple", "$memory", "x"]), st.integers()),
)


def _forge(tree, draw):
    """A copy of a manifest with one value somewhere replaced, removed, renamed or added."""
    tree = copy.deepcopy(tree)
    spots = [(node, key) for node in _containers(tree) for key in _keys(node)]
    node, key = spots[draw(st.integers(0, len(spots) - 1))]
    kind = draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename", "add"]))
    if kind == "remove":
        del node[key]
    elif kind == "rename" and isinstance(node, dict):
        node[draw(st.text(max_size=12))] = node.pop(key)
    elif kind == "add" and isinstance(node, dict):
        names = st.one_of(st.text(max_size=12), st.sampled_from(["_network", "fit", "__dict__"]))
        node[draw(names)] = draw(_VALUES)
    else:
        node[key] = draw(_VALUES)
    return tree


def _keys(node):
    return list(node) if isinstance(node, dict) else range(len(node))


def _containers(node):
    if isinstance(node, (dict, list)) and len(node):
        yield node
        for key in _keys(node):
            yield from _containers(node[key])


def damaged_archives(n: int) -> dict[str, Outcome]:
    """Load `n` archives each: damaged by chance, with a forged manifest, with forged weights.

    Chance must not get past the hashes at all. A forger can write hashes, so what he wrote may
    load, and then predicts without an error of another kind.
    """
    clf = classifier().fit(TEXTS, LABELS)
    expected = clf.predict_proba(TEXTS[:3])
    with tempfile.TemporaryDirectory() as temporary:
        good = Path(temporary, "good.zip")
        clf.save(good)
        raw = good.read_bytes()
        manifest, tensors = read_archive(good)
        target = Path(temporary, "bad.zip")
        weights = safetensors.numpy.load(tensors)

        def damaged(draw):
            target.write_bytes(_mutate(raw, draw))

        def forged_manifest(draw):
            files.write(target, _forge(manifest, draw), tensors)

        def forged_weights(draw):
            files.write(target, manifest, _mutate(tensors, draw))

        def other_weights(draw):
            name = draw(st.sampled_from(sorted(weights)))
            shape = draw(st.sampled_from([(), (1,), (3, 32), (2**16,), weights[name].shape]))
            dtype = draw(st.sampled_from(["float32", "float64", "int8", "float16"]))
            value = draw(st.sampled_from([0, 1, np.nan, np.inf])) * np.ones(shape)
            with np.errstate(invalid="ignore"):
                changed = weights | {name: np.asarray(value, dtype=dtype)}
            files.write(target, manifest, safetensors.numpy.save(changed))

        return {
            "archive damaged by chance": _fuzz(damaged, target, clf, n, expected),
            "archive with a forged manifest": _fuzz(forged_manifest, target, clf, n),
            "archive with forged weights": _fuzz(forged_weights, target, clf, n // 2),
            "archive with other weights": _fuzz(other_weights, target, clf, n // 2),
        }


def all_four(folders: dict[str, str] | None = None) -> dict[str, tuple]:
    """A small fitted estimator of each kind, and rows for it.

    On live models, or on those in folders, by their type.
    """
    images, sides = tiny_vision.images()
    text, writer, vision = (
        (tiny.backbone(), tiny.backbone("gpt2"), tiny_vision.backbone())
        if folders is None
        else (folders["bert"], folders["gpt2"], folders["vit"])
    )
    options = SMALL | {"max_iter": 1}
    made = [
        (LoPAClassifier(text, **options).fit(TEXTS, LABELS), TEXTS[:3]),
        (LoPARegressor(text, **options).fit(TEXTS, np.arange(24.0)), TEXTS[:3]),
        (LoPAGenerator(writer, **options, max_new_tokens=3).fit(TEXTS, TEXTS),
         TEXTS[:3]),
        (LoPAImageClassifier(vision, **options).fit(images, sides), images[:3]),
    ]  # fmt: skip
    return {type(estimator).__name__: (estimator, rows) for estimator, rows in made}


def forged_archives(n: int) -> dict[str, Outcome]:
    """Load `n` archives of each estimator whose manifest a forger changed, hashes in order."""
    outcomes = {}
    for kind, (estimator, rows) in all_four().items():
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary, "forged.zip")
            estimator.save(path)
            manifest, tensors = read_archive(path)

            def run(draw, estimator=estimator, path=path, manifest=manifest, tensors=tensors):
                files.write(path, _forge(manifest, draw), tensors)
                return sklopa.load(path, backbone=estimator.model)

            outcomes[f"forged archive of {kind}"] = _forged(run, rows, n)
    return outcomes


def forged_state(n: int) -> dict[str, Outcome]:
    """Set the state of each estimator `n` times as a forger's skops file would have it."""
    outcomes = {}
    for kind, (estimator, rows) in all_four().items():

        def run(draw, estimator=estimator):
            state = estimator.__getstate__()
            kept = {name: state.pop(name) for name in ("model", "encoder", "_weights")}
            models = {name: state["_design"][name] for name in ("backbone", "encoder")}
            state["_design"] = {k: v for k, v in state["_design"].items() if k not in models}
            state = _forge(state, draw)
            if isinstance(state.get("_design"), dict):
                state["_design"] |= models
            made = type(estimator).__new__(type(estimator))
            made.__setstate__(state | kept)
            return made

        outcomes[f"forged state of {kind}"] = _forged(run, rows, n)
    return outcomes


def _forged(run, rows, n: int) -> Outcome:
    """What comes of forged values: one of our errors, or an estimator that predicts in time."""
    outcome = Outcome()

    @seed(0)
    @settings(max_examples=n, database=None, deadline=None, suppress_health_check=HealthCheck)
    @given(st.data())
    def once(data):
        started, problem = time.perf_counter(), None
        try:
            run(data.draw).predict(rows)
        except SklopaError:
            pass
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        slow = time.perf_counter() - started > 20
        outcome.count(problem or ("slow" if slow else None))

    once()
    return outcome


def _fuzz(write, target: Path, clf, n: int, expected=None) -> Outcome:
    outcome = Outcome()

    @seed(0)
    @settings(max_examples=n, database=None, deadline=None, suppress_health_check=HealthCheck)
    @given(st.data())
    def run(data):
        write(data.draw)
        outcome.count(_load_problem(target, clf, expected))

    run()
    return outcome


def _load_problem(target: Path, clf, expected) -> str | None:
    started = time.perf_counter()
    try:
        loaded = sklopa.load(target, backbone=clf.model)
        found = loaded.predict_proba(TEXTS[:3])
    except SklopaError:
        found = expected
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if expected is not None and not np.array_equal(found, expected):
        return "another prediction"
    return "slow" if time.perf_counter() - started > 20 else None


# ---------------------------------------------------------------- processes that are killed


@contextmanager
def child(run):
    """`run` in a forked process, which is gone when the context ends."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run()
            code = 0
        finally:
            os._exit(code)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _wait(pid: int, seconds: float) -> int | None:
    """Exit status of a child if it ends within that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT).si_status
        time.sleep(0.001)
    return None


def killed_fits(n: int, **options) -> Outcome:
    """Kill fits that write checkpoints until `n` kills are done; finished ones must be equal."""
    chance, outcome, kills = random.Random(0), Outcome(), 0
    options = {"max_iter": 6, "checkpoint_every": 2} | options
    expected = classifier(**options).fit(TEXTS, LABELS)
    with tempfile.TemporaryDirectory() as temporary:
        run = 0
        while outcome.tried < n:
            folder, done = Path(temporary, f"{run}"), Path(temporary, f"{run}.zip")
            run += 1
            kills = 0
            while not done.exists():

                def fit(folder=folder, done=done):
                    clf = classifier(checkpoint_dir=folder, **options)
                    clf.fit(TEXTS, LABELS).save(done)

                with child(fit) as pid:
                    status = _wait(pid, chance.uniform(0, 0.25) if kills < 8 else 60)
                kills += status is None
                if status:
                    outcome.count(f"the fit ended with status {status}")
                    break
            problem = _state_problem(done, expected)
            for _ in range(kills):
                outcome.count(problem)
    return outcome


def _state_problem(path: Path, expected) -> str | None:
    loaded = sklopa.load(path, backbone=expected.model)
    same = all(np.array_equal(v, weights_of(expected)[k]) for k, v in weights_of(loaded).items())
    return None if same and loaded.loss_curve_ == expected.loss_curve_ else "another end state"


def killed_saves(n: int, name: str) -> Outcome:
    """Kill processes that save two estimators in turn over the same archive."""
    chance, outcome = random.Random(0), Outcome()
    both = [classifier(random_state=i).fit(TEXTS, LABELS) for i in range(2)]
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, name)
        both[0].save(path)

        def save_in_turn():
            while True:
                for clf in both:
                    clf.save(path)

        for _ in range(n):
            with child(save_in_turn) as pid:
                _wait(pid, chance.uniform(0, 0.05))
            outcome.count(_archive_problem(path, both))
    return outcome


def _archive_problem(path: Path, both) -> str | None:
    try:
        loaded = sklopa.load(path, backbone=both[0].model)
    except SklopaError as error:
        return str(error)
    equal = [
        np.array_equal(weights_of(loaded)["head.bias"], weights_of(x)["head.bias"]) for x in both
    ]
    return None if any(equal) else "a mixture"


# ---------------------------------------------------------------- files of other kinds


def hostile_zip_files(folder: Path) -> dict[str, Path]:
    """Zip files that a stranger could send, by what is wrong with them."""
    clf = classifier().fit(TEXTS, LABELS)
    clf.save(folder / "good.zip")
    with zipfile.ZipFile(folder / "good.zip") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    weights = next(name for name in entries if name != "manifest.json")
    manifest = entries["manifest.json"]
    made = {}

    def add(name, changed, compression=zipfile.ZIP_STORED):
        made[name] = folder / f"{name.replace(' ', '_')}.zip"
        with zipfile.ZipFile(made[name], "w", compression) as archive:
            for entry, data in changed:
                archive.writestr(entry, data)

    link = zipfile.ZipInfo(weights)
    link.external_attr = 0o120777 << 16
    add("path traversal", [*entries.items(), ("../outside.json", b"{}")])
    add("absolute path", [*entries.items(), ("/etc/passwd", b"")])
    add("backslash path", [*entries.items(), ("..\\outside.json", b"{}")])
    add("symbolic link", [("manifest.json", manifest), (link, b"/etc/passwd")])
    add("extra file", [*entries.items(), ("run.py", b"print(1)")])
    add("pickle beside", [*entries.items(), ("weights.pkl", b"\x80\x04.")])
    add("no weights", [("manifest.json", manifest)])
    add("no manifest", [(weights, entries[weights])])
    add("two of a name", [*entries.items(), ("manifest.json", manifest)])
    add("bomb in the manifest", [("manifest.json", b" " * (80 << 20))], zipfile.ZIP_DEFLATED)
    bomb = [("manifest.json", manifest), (weights, bytes(200 << 20))]
    add("bomb in the weights", bomb, zipfile.ZIP_DEFLATED)
    add("empty", [])
    add("deeply nested", [("manifest.json", b"[" * 200_000), (weights, b"")])
    add("double keys", [("manifest.json", b'{"format": 1, "format": 1}'), (weights, b"")])
    add("long number", [("manifest.json", b'{"format": ' + b"9" * 10_000 + b"}"), (weights, b"")])
    made["no zip file"] = folder / "no.zip"
    made["no zip file"].write_bytes(b"PK\x03\x04" + b"\0" * 100)
    made["nothing in it"] = folder / "nothing.zip"
    made["nothing in it"].write_bytes(b"")
    return made


def sealed(folder: Path, name: str, change) -> Path:
    """An archive whose manifest a forger changed, its hashes in order."""
    clf = classifier().fit(TEXTS, LABELS)
    clf.save(folder / "good.zip")
    manifest, tensors = read_archive(folder / "good.zip")
    manifest = json.loads(json.dumps(manifest))
    tensors = change(manifest, tensors) or tensors
    files.write(folder / f"{name}.zip", manifest, tensors)
    return folder / f"{name}.zip"
