"""A stranger's archive is refused with a reason, and nothing of it runs or leaves its place."""

import os
import pickle
import resource
import shutil

import faults
import numpy as np
import pytest
import safetensors.numpy
import tiny
from helpers import raises

import sklopa
from sklopa._storage import files
from sklopa._storage.read import read_archive

pytestmark = pytest.mark.stress


class _Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def load(path):
    return sklopa.load(path, backbone=tiny.backbone())


@pytest.fixture(scope="module")
def zip_files(tmp_path_factory):
    return faults.hostile_zip_files(tmp_path_factory.mktemp("hostile"))


REASONS = {
    "path traversal": "'../outside.json'",
    "absolute path": "'/etc/passwd'",
    "backslash path": "outside.json",
    "symbolic link": "is a link",
    "extra file": "'run.py'",
    "pickle beside": "'weights.pkl'",
    "no weights": "missing",
    "no manifest": "not a manifest and weights",
    "two of a name": "not a manifest and weights",
    "bomb in the manifest": "a hundred times",
    "bomb in the weights": "a hundred times",
    "empty": "not a manifest and weights",
    "deeply nested": "manifest.json cannot be read",
    "double keys": "a key stands twice",
    "long number": "manifest.json cannot be read",
    "no zip file": "zip",
    "nothing in it": "zip",
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", REASONS)
def test_a_hostile_zip_file_is_refused_with_the_reason(zip_files, name):
    before = {path: path.stat().st_mtime_ns for path in zip_files[name].parent.rglob("*")}
    with raises(ValueError, "damaged, or was not written by sklopa", REASONS[name]):
        load(zip_files[name])
    assert before == {path: path.stat().st_mtime_ns for path in zip_files[name].parent.rglob("*")}


def test_every_hostile_zip_file_has_a_reason(zip_files):
    assert set(zip_files) == set(REASONS)


# ---------------------------------------------------------------- forged, with hashes in order


def _design(manifest, **changes):
    manifest["design"]["$design"] |= changes


def _template(pattern):
    return {"$template": {"pattern": pattern, "mask_token": None, "mask_id": None}}


def _weights(**changes):
    def change(manifest, tensors):
        weights = safetensors.numpy.load(tensors) | changes
        return safetensors.numpy.save({k: v for k, v in weights.items() if v is not None})

    return change


def _array(dtype, items):
    return {"$array": {"dtype": dtype, "shape": [len(items)], "items": items}}


BIAS = np.zeros(2, dtype=np.float32)
FORGED = {
    "nan_weights": (_weights(**{"head.bias": BIAS * np.nan}), "not all of them are finite"),
    "infinite_weights": (_weights(**{"head.bias": BIAS + np.inf}), "finite"),
    "float64_weights": (_weights(**{"head.bias": BIAS.astype("float64")}), "float64"),
    "missing_tensor": (_weights(**{"head.bias": None}), "head.bias"),
    "extra_tensor": (_weights(extra=BIAS), "extra"),
    "other_shape": (_weights(**{"head.bias": np.zeros(3, dtype=np.float32)}), "head.bias"),
    "no_tensors": (lambda manifest, tensors: b"\0" * 8, "header"),
    "huge_header": (lambda manifest, tensors: b"\xff" * 7 + b"\0" + tensors, "header"),
    "unknown_key": (lambda m, t: m.update(code="print(1)"), "keys ['code']"),
    "missing_key": (lambda m, t: m.pop("attributes") and None, "lacks ['attributes']"),
    "unknown_estimator": (lambda m, t: m.update(estimator="Popen"), "'Popen'"),
    "estimator_list": (lambda m, t: m.update(estimator=[]), "[]"),
    "unknown_parameter": (lambda m, t: m["parameters"].update(shell="ls"), "shell"),
    "bad_parameter": (lambda m, t: m["parameters"].update(batch_size=0), "batch_size"),
    "folder_to_write_to": (lambda m, t: m["parameters"].update(memory="/root"), "folders"),
    "attribute_that_is_a_method": (lambda m, t: m["attributes"].update(fit=1), "'fit'"),
    "attribute_of_python": (lambda m, t: m["attributes"].update(__class__=1), "'__class__'"),
    "attribute_that_is_live": (lambda m, t: m["attributes"].update(_network=1), "'_network'"),
    "attribute_of_another_type": (lambda m, t: m["attributes"].update(classes_=3), "an array"),
    "classes_that_do_not_match": (
        lambda m, t: m["attributes"].update(classes_=_array("<U1", ["a", "b", "c"])), "3 classes"
    ),
    "array_that_lies": (
        lambda m, t: m["attributes"].update(classes_=_array("<U500000000", ["a"])), "too large"
    ),
    "array_of_another_class": (
        lambda m, t: m["attributes"].update(classes_=_array("V8", ["a"])), "cannot be read"
    ),
    "unknown_kind": (lambda m, t: m["attributes"].update(classes_={"$eval": "1"}), "$eval"),
    "unknown_design_key": (lambda m, t: _design(m, hook="x"), "hook"),
    "design_of_another_type": (lambda m, t: _design(m, rank="4"), "rank='4'"),
    "design_that_is_none": (lambda m, t: m.update(design={"$tuple": []}), "design"),
    "huge_bottleneck": (lambda m, t: _design(m, bottleneck=10**9), "are stored"),
    "huge_rank": (lambda m, t: _design(m, rank=10**9), "are stored"),
    "huge_prompt": (lambda m, t: _design(m, prompt_length=10**9), "are stored"),
    "huge_output": (lambda m, t: _design(m, n_outputs=10**9), "are stored"),
    "negative_prompt": (lambda m, t: _design(m, prompt_length=-3), "an integer >= 0"),
    "negative_reserve": (lambda m, t: _design(m, reserved=-1), "positions free"),
    "many_views": (lambda m, t: _design(m, n_views=10**9), "views of a row"),
    "huge_reserve": (lambda m, t: _design(m, reserved=10**9), "leave room for text"),
    "format_that_reaches_out": (
        lambda m, t: _design(m, template=_template("{text.__class__}")), "more than texts"
    ),
    "format_that_fills_memory": (
        lambda m, t: _design(m, template=_template("{text:>999999999}")), "more than texts"
    ),
    "word_outside": (lambda m, t: _design(m, word_ids={"$tuple": [0, 10**6]}), "vocabulary"),
    "too_few_words": (lambda m, t: _design(m, word_ids={"$tuple": [0]}), "1 words"),
    "unknown_gate": (lambda m, t: _design(m, gate="x"), "gate must be"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_archive_is_refused_with_the_reason(tmp_path, name):
    change, reason = FORGED[name]
    path = faults.sealed(tmp_path, "forged", change)
    with raises(ValueError, reason):
        load(path)


def test_a_pickle_under_a_safetensors_name_is_not_opened(tmp_path):
    data = pickle.dumps(_Bomb(tmp_path / "harm"))
    with raises(ValueError, "damaged"):
        load(faults.sealed(tmp_path, "forged", lambda manifest, tensors: data))
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("where", ["design", "parameter"])
def test_code_that_comes_with_a_model_is_refused(tmp_path, where):
    def change(manifest, tensors):
        design = manifest["design"]["$design"]["backbone"]["$backbone"]
        design |= {"model": "org/model", "trust_remote_code": where == "design"}
        model = dict(design, trust_remote_code=True)
        manifest["parameters"]["model"] = {"$backbone": model}
        manifest["design"]["$design"]["encoder"] = {"$backbone": design}

    with raises(ValueError, "run code", "trust_remote_code", "'org/model'"):
        sklopa.load(faults.sealed(tmp_path, "forged", change))


# ---------------------------------------------------------------- folders


@pytest.fixture
def folder(tmp_path):
    """An archive with its backbone in it."""
    faults.classifier(max_iter=1).fit(faults.TEXTS, faults.LABELS).save(
        tmp_path / "clf", include_backbone=True
    )
    return tmp_path / "clf"


def _model(folder):
    return next(folder.glob("backbone-*"))


def test_a_changed_file_of_the_backbone_is_named(folder):
    with (_model(folder) / "tokenizer.json").open("a") as file:
        file.write(" ")
    with raises(ValueError, "differs from what was saved in tokenizer.json"):
        sklopa.load(folder)


@pytest.mark.parametrize("name", ["modeling.py", "pytorch_model.bin", "x.pkl"])
def test_code_and_pickles_beside_the_backbone_are_refused(folder, name):
    (_model(folder) / name).write_bytes(b"")
    with raises(ValueError, name, "is not opened"):
        sklopa.load(folder)


def test_a_link_in_the_backbone_is_refused(folder):
    (_model(folder) / "more.json").symlink_to("/etc/passwd")
    with raises(ValueError, "more.json", "link"):
        sklopa.load(folder)


@pytest.mark.parametrize("name", ["../clf", "/etc", "backbone-0000000000000000/.."])
def test_a_backbone_outside_the_folder_is_refused(folder, name):
    manifest, _ = read_archive(folder)
    manifest["models"]["backbone"]["folder"] = name
    (folder / "manifest.json").write_bytes(files.seal(manifest))
    with raises(ValueError, "no folder of a model"):
        sklopa.load(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders here")
def test_a_pipe_in_the_place_of_a_file_does_not_hang(folder):
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    with raises(ValueError, "no regular file"):
        sklopa.load(folder)


def test_a_missing_file_is_named(folder):
    shutil.rmtree(_model(folder))
    with raises(ValueError, "backbone-"):
        sklopa.load(folder)
    next(folder.glob("weights-*")).unlink()
    with raises(ValueError, "weights-", "missing"):
        sklopa.load(folder)


# ---------------------------------------------------------------- mutations by the thousand


def _check(forge, n):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = forge(n)
    lost = {name: outcome.lost for name, outcome in outcomes.items() if outcome.lost}
    assert not lost
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    assert grown < 400 << 10
    return sum(outcome.tried for outcome in outcomes.values())


FORGERS = [faults.damaged_archives, faults.forged_archives, faults.forged_state]


@pytest.mark.parametrize("forge", FORGERS)
def test_damaged_and_forged_archives_and_states_end_in_our_own_errors(forge):
    assert _check(forge, 20) >= 60


@pytest.mark.parametrize("forge", FORGERS)
def test_thousands_of_damaged_and_forged_archives_and_states_end_in_our_own_errors(forge):
    assert _check(forge, 750) >= 2000
