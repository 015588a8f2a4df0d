"""`to_onnx` and `OnnxPredictor`: the estimator's own predictions, without torch."""

import json

import numpy as np
import pytest
import tiny
from helpers import printed_without, raises

from sklopa import LoPAClassifier, LoPARegressor, OnnxPredictor
from sklopa._onnx.weights import mapped_tensors
from sklopa._storage import files
from sklopa.errors import InvalidArchive, UnsupportedBackbone

CLOSE = {"rtol": 0, "atol": 1e-4}
SMALL = {"prompt_length": 3, "rank": 2, "bottleneck": 8, "max_iter": 2, "random_state": 0}
ROWS = ["good", "", "a very bad film " * 5, "the plot was fine"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rank": 0},
        {"gate": "concat"},
        {"prompt_length": 0, "rank": 0},
        {"depth": "deep"},
        {"prompt_layer": 1},
        {"max_length": 4},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*lost their end")
def test_a_graph_predicts_as_the_estimator_does(tmp_path, reviews, options):
    clf = LoPAClassifier(tiny.backbone(), **SMALL | options).fit(*reviews)
    clf.to_onnx(tmp_path / "reviews")
    predictor = OnnxPredictor(tmp_path / "reviews")
    rows = [*ROWS, *reviews[0]]
    np.testing.assert_allclose(predictor.predict_proba(rows), clf.predict_proba(rows), **CLOSE)
    assert predictor.predict(rows).tolist() == clf.predict(rows).tolist()
    np.testing.assert_array_equal(predictor.classes_, clf.classes_)
    one = predictor.predict_proba(rows[:1])
    np.testing.assert_allclose(one, clf.predict_proba(rows[:1]), **CLOSE)


@pytest.mark.parametrize("family", ["albert", "roberta", "distilbert", "gpt2", "llama"])
def test_other_families_go_into_a_graph(tmp_path, reviews, family):
    clf = LoPAClassifier(tiny.backbone(family), **SMALL).fit(*reviews)
    clf.to_onnx(tmp_path / "m.onnx")
    found = OnnxPredictor(tmp_path / "m.onnx").predict_proba([*ROWS, *reviews[0]])
    np.testing.assert_allclose(found, clf.predict_proba([*ROWS, *reviews[0]]), **CLOSE)


def test_pairs_and_numbers(tmp_path, pairs):
    rows, labels = pairs
    y = [float(label == "same") * 3 + 1 for label in labels]
    model = LoPARegressor(tiny.backbone(), **SMALL).fit(rows, y)
    model.to_onnx(tmp_path / "m")
    predictor = OnnxPredictor(tmp_path / "m")
    np.testing.assert_allclose(predictor.predict(rows), model.predict(rows), rtol=0, atol=1e-3)
    assert not hasattr(predictor, "predict_proba")
    with raises(ValueError, "1 features", "2 features"):
        predictor.predict(["one text"])


def test_several_labels_a_row(tmp_path, reviews):
    texts, labels = reviews
    y = np.array(
        [[label == "pos", "film" in text] for text, label in zip(texts, labels, strict=True)]
    )
    clf = LoPAClassifier(tiny.backbone(), **SMALL).fit(texts, y.astype(int))
    clf.to_onnx(tmp_path / "m")
    predictor = OnnxPredictor(tmp_path / "m")
    np.testing.assert_allclose(predictor.predict_proba(texts), clf.predict_proba(texts), **CLOSE)
    np.testing.assert_array_equal(predictor.predict(texts), clf.predict(texts))


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_label_words(tmp_path, reviews, family):
    clf = LoPAClassifier(
        tiny.backbone(family), head="verbalizer",
        verbalizer={"pos": "good", "neg": "bad"}, **SMALL,
    ).fit(*reviews)  # fmt: skip
    clf.to_onnx(tmp_path / "m")
    found = OnnxPredictor(tmp_path / "m").predict_proba(ROWS)
    np.testing.assert_allclose(found, clf.predict_proba(ROWS), **CLOSE)


def test_tasks_over_one_model_share_its_weights(tmp_path, reviews):
    backbone = tiny.backbone()
    for i, rank in enumerate([1, 2]):
        clf = LoPAClassifier(backbone, **SMALL | {"rank": rank, "random_state": i})
        clf.fit(*reviews).to_onnx(tmp_path / f"task{i}")
    assert len(list(tmp_path.glob("weights-*"))) == 1
    assert len(list(tmp_path.glob("tokenizer-*"))) == 1
    one, two = OnnxPredictor(tmp_path / "task0"), OnnxPredictor(tmp_path / "task1")
    assert one._weights is two._weights
    frozen = mapped_tensors(next(tmp_path.glob("weights-*")))
    graph = (tmp_path / "task1.onnx").read_bytes()
    assert frozen
    assert not [name for name, values in frozen.items() if values.tobytes() in graph]


def test_it_reads_without_torch_and_transformers(tmp_path, reviews):
    clf = LoPAClassifier(tiny.backbone(), **SMALL).fit(*reviews)
    clf.to_onnx(tmp_path / "m")
    code = (
        "from sklopa import OnnxPredictor\n"
        "import json\n"
        f"p = OnnxPredictor({str(tmp_path / 'm')!r}, n_threads=1)\n"
        f"print(json.dumps(p.predict_proba({ROWS!r}).tolist()))\n"
    )
    printed = printed_without(("torch", "transformers", "onnx", "safetensors"), code)
    np.testing.assert_allclose(json.loads(printed), clf.predict_proba(ROWS), **CLOSE)


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"train_encoder": True}, "encoder of its own"), ({"encoder": "other"}, "encoder of its own")],
    ids=["trained encoder", "other encoder"],
)
def test_what_does_not_go_into_a_graph_is_named(tmp_path, reviews, options, reason):
    if "encoder" in options:
        options = {"encoder": tiny.backbone("roberta")}
    clf = LoPAClassifier(tiny.backbone(), **SMALL | options).fit(*reviews)
    with pytest.raises(UnsupportedBackbone, match=reason):
        clf.to_onnx(tmp_path / "m")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def written(tmp_path_factory, reviews):
    folder = tmp_path_factory.mktemp("onnx")
    LoPAClassifier(tiny.backbone(), **SMALL).fit(*reviews).to_onnx(folder / "m")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _put(folder, written, change):
    manifest = json.loads(written["m.json"])
    del manifest["sha256"]
    change(manifest)
    for name, data in written.items():
        (folder / name).write_bytes(data)
    (folder / "m.json").write_bytes(files.seal(manifest))


FORGED = {
    "other_format": lambda m: m.update(format=9),
    "weights_elsewhere": lambda m: m["weights"].update(file="../weights.safetensors"),
    "tokenizer_elsewhere": lambda m: m["tokenizer"].update(file="/etc/passwd"),
    "template_that_reaches_out": lambda m: m["reading"].update(
        template={
            "pattern": "{text.__class__}", "mask_token": None, "mask_id": None,
            "special_tokens": True,
        }
    ),
    "labels_of_no_kind": lambda m: m.update(classes={"dtype": "V8", "values": ["a"]}),
    "a_limit_that_is_none": lambda m: m["reading"].update(limits={"row": "x"}),
    "an_input_of_no_name": lambda m: m.update(inputs=["x"]),
    "fewer_labels": lambda m: m["classes"].update(values=["pos"]),
    "fewer_texts": lambda m: m["reading"]["limits"].pop("row"),
    "other_inputs": lambda m: m.update(inputs=m["inputs"][:2]),
    "no_columns": lambda m: m.update(n_columns=7),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_description_is_refused(tmp_path, written, name):
    _put(tmp_path, written, FORGED[name])
    with pytest.raises(InvalidArchive):
        OnnxPredictor(tmp_path / "m")


@pytest.mark.parametrize("suffix", ["onnx", "json", "safetensors"])
def test_a_damaged_file_is_refused(tmp_path, written, suffix):
    _put(tmp_path, written, lambda manifest: None)
    path = next(tmp_path.glob(f"*.{suffix}"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(InvalidArchive):
        OnnxPredictor(tmp_path / "m")


def test_a_graph_that_reads_another_file_is_refused(tmp_path, written):
    import hashlib

    graph = written["m.onnx"]
    name = json.loads(written["m.json"])["weights"]["file"].encode()
    forged = graph.replace(name, b"../../" + b"x" * (len(name) - 6), 1)
    assert forged != graph
    _put(tmp_path, written, lambda m: m["graph"].update(sha256=hashlib.sha256(forged).hexdigest()))
    (tmp_path / "m.onnx").write_bytes(forged)
    with pytest.raises(InvalidArchive, match="reads files other"):
        OnnxPredictor(tmp_path / "m")
