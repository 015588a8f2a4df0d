"""What strangers send or leave: skops files, folders, caches, servers, programs."""

import asyncio
import io
import json
import os
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import skops.io
import tiny
import tiny_vision
from code_fakes import FORGERS, JUMPS, OF_FUNCTIONS, READERS, TESTS
from fake_server import FakeServer, serving
from faults import SMALL, TEXTS, Outcome, _forge, _mutate, all_four
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import sklopa
from sklopa import LoPAClassifier, LoPAGenerator
from sklopa._sandbox.run import run_isolated
from sklopa.errors import SandboxUnavailable, SklopaError
from sklopa.serving import PromptClient

LABELS = ["pos", "neg"] * 12


def _drawn(n, once) -> Outcome:
    """`once(draw)` for `n` draws; it says what was lost."""
    outcome = Outcome()

    @seed(0)
    @settings(max_examples=n, database=None, deadline=None, suppress_health_check=HealthCheck)
    @given(st.data())
    def run(data):
        outcome.count(once(data.draw))

    run()
    return outcome


# ---------------------------------------------------------------- files


def forged_skops(n: int) -> dict[str, Outcome]:
    """Load `n` skops files of each estimator that a forger changed, trusting what README says.

    What skops itself makes of a file that is none is its own; what it hands over is ours.
    """
    outcomes = {}
    with tempfile.TemporaryDirectory() as temporary:
        folders = {"bert": tiny.save(Path(temporary, "bert")),
                   "gpt2": tiny.save(Path(temporary, "gpt2"), "gpt2"),
                   "vit": tiny_vision.save(Path(temporary, "vit"))}  # fmt: skip
        for kind, (estimator, rows) in all_four(folders).items():
            data = skops.io.dumps(estimator)
            with zipfile.ZipFile(io.BytesIO(data)) as file:
                entries = {name: file.read(name) for name in file.namelist()}
            schema = json.loads(entries["schema.json"])

            def once(draw, kind=kind, entries=entries, schema=schema, rows=rows):
                changed = dict(entries)
                if draw(st.integers(0, 3)):
                    changed["schema.json"] = json.dumps(_forge(schema, draw)).encode()
                else:
                    name = draw(st.sampled_from(sorted(set(entries) - {"schema.json"})))
                    changed[name] = _mutate(entries[name], draw)
                packed = io.BytesIO()
                with zipfile.ZipFile(packed, "w") as file:
                    for name, content in changed.items():
                        file.writestr(name, content)
                trusted = [f"sklopa.{kind}", "sklopa.Backbone"]
                try:
                    made = skops.io.loads(packed.getvalue(), trusted=trusted)
                except Exception:
                    return None
                if type(made).__name__ != kind:
                    return None
                return _problem(lambda: made.predict(rows))

            outcomes[f"forged skops file of {kind}"] = _drawn(n, once)
    return outcomes


def foreign_folders(n: int) -> Outcome:
    """Save into `n` folders that hold files of somebody else's."""
    clf = LoPAClassifier(tiny.backbone(), **SMALL, max_iter=1).fit(TEXTS, LABELS)
    names = st.sampled_from([
        "manifest.json", "weights.safetensors", "weights-of-my-thesis.tar.part", "lock", "backbone",
        "weights-0123456789abcdef.safetensors", "manifest.json.part", "encoder.onnx.part", "a.part",
        "notes.txt", ".hidden",
    ])  # fmt: skip
    contents = st.sampled_from([b"", b"{}", b'{"a": 1}', b"[", b'{"format": 1}', b"\0" * 100])

    def once(draw):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary, "folder")
            folder.mkdir()
            for name in draw(st.lists(names, min_size=1, max_size=5, unique=True)):
                if draw(st.integers(0, 4)):
                    (folder / name).write_bytes(draw(contents))
                else:
                    (folder / name).mkdir()
                    (folder / name / "kept").write_bytes(b"kept")
            before = _tree(folder)
            problem = _problem(lambda: clf.save(folder), lambda _: _loads(folder, clf))
            gone = [path for path, data in before.items() if _tree(folder).get(path) != data]
            return problem or (f"{gone[0]} is gone or changed" if gone else None)

    return _drawn(n, once)


def _loads(folder, clf):
    sklopa.load(folder, backbone=clf.model).predict(TEXTS[:2])


def _tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def poisoned_caches(n: int) -> Outcome:
    """Predict with `n` folders of `memory=` that hold what `put` never writes."""
    with tempfile.TemporaryDirectory() as temporary:
        memory = Path(temporary, "memory")
        model = tiny.save(Path(temporary, "bert"))
        clf = LoPAClassifier(model, **SMALL, max_iter=1, memory=memory).fit(TEXTS, LABELS)
        new = [f"{text} and a plot" for text in TEXTS[:3]]
        sklopa.cache_clear()
        expected = clf.predict_proba(new)
        (file, *_) = sorted(memory.rglob("*.npz"), key=lambda path: path.stat().st_mtime)[::-1]
        good = file.read_bytes()
        arrays = dict(np.load(file))

        def spoil(draw):
            kind = draw(st.sampled_from(["bytes", "arrays", "link", "pipe", "folder"]))
            if kind == "bytes":
                file.write_bytes(_mutate(good, draw))
            elif kind == "arrays":
                name = draw(st.sampled_from(["keys", "values"]))
                value = arrays[name]
                change = draw(st.sampled_from([
                    lambda: value.astype(np.float64), lambda: value[:, :1], lambda: value[:1],
                    lambda: np.full(value.shape, np.nan, np.float32), lambda: value.ravel(),
                    lambda: value.astype(object), lambda: value[..., None], lambda: value[:0],
                ]))  # fmt: skip
                np.savez(file, **(arrays | {name: change()}))
            elif kind == "folder":
                file.mkdir()
            elif kind == "link":
                file.symlink_to(draw(st.sampled_from(["/dev/zero", "/etc/passwd", "nowhere"])))
            else:
                os.mkfifo(file)

        def once(draw):
            _remove(file)
            spoil(draw)
            sklopa.cache_clear()
            problem = _problem(
                lambda: clf.predict_proba(new),
                lambda found: None if np.allclose(found, expected, atol=1e-5) else 1 / 0,
            )
            for path in memory.rglob("*.npz"):
                if path != file:
                    path.unlink()
            return problem

        return _drawn(n, once)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
    with suppress(OSError):
        path.rmdir()


# ---------------------------------------------------------------- servers and programs


def hostile_servers(n: int) -> Outcome:
    """Ask `n` times a server whose answers are changed by chance or by a forger."""
    with tempfile.TemporaryDirectory() as temporary:
        made, reader = tiny.model("llama")
        folder = str(Path(temporary, "llama"))
        made.save_pretrained(folder)
        reader.save_pretrained(folder)
        model = LoPAGenerator(folder, encoder=tiny.save(Path(temporary, "bert")), **SMALL,
                              max_iter=1, max_new_tokens=3).fit(TEXTS, TEXTS)  # fmt: skip
        fake = FakeServer(made, reader)
        answer = {"choices": [{"text": "no", "index": 0}], "id": "a", "usage": {"total_tokens": 3}}
        with serving(fake) as url:

            def once(draw):
                whole = json.dumps(answer).encode()
                said = draw(st.sampled_from(["bytes", "forged", "status"]))
                ask = draw(st.sampled_from(["predict", "stream"]))
                if said == "bytes":
                    whole = _mutate(whole, draw)
                elif said == "forged":
                    whole = json.dumps(_forge(answer, draw)).encode()
                data = b"data: " + whole + b"\n\ndata: [DONE]\n\n" if ask == "stream" else whole
                status = (
                    draw(st.sampled_from([200, 204, 302, 400, 418])) if said == "status" else 200
                )
                fake.trouble = [(status, data)] * 3
                client = PromptClient(model, url, timeout=5, patience=0)
                if ask == "predict":
                    return _problem(lambda: client.predict(["red"]), _is_text)
                return _problem(lambda: asyncio.run(_collect(client.stream("red"))), _is_text)

            return _drawn(n, once)


async def _collect(stream):
    return [piece async for piece in stream]


def _is_text(found):
    if not all(isinstance(text, str) for text in found):
        raise TypeError(f"{found!r} is no text")


def fakes_of_programs() -> Outcome:
    """Run each program that only looks as if it passed its test."""
    outcome = Outcome()
    for name, program in {**READERS, **JUMPS, **FORGERS}.items():
        test = TESTS["function" if name in OF_FUNCTIONS else "plain"]
        try:
            outcome.count(
                f"{name} passed" if run_isolated(program, test, timeout=2).passed else None
            )
        except SandboxUnavailable:
            return outcome
    return outcome


def _problem(run, check=lambda found: None) -> str | None:
    """What was lost: an error that is not ours, or a result that `check` refuses."""
    try:
        check(run())
    except SklopaError:
        return None
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None
