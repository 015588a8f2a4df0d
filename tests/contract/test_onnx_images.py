"""`to_onnx` and `OnnxPredictor` of images: from pixels to probabilities, without torch."""

import json

import numpy as np
import pytest
import tiny_vision
from helpers import printed_without, raises
from PIL import Image

from sklopa import Backbone, LoPAImageClassifier, OnnxPredictor
from sklopa._storage import files
from sklopa.errors import InvalidArchive, InvalidInput, UnsupportedBackbone

CLOSE = {"rtol": 0, "atol": 1e-4}
SMALL = {"prompt_length": 3, "rank": 2, "bottleneck": 8, "max_iter": 2, "random_state": 0}
IMAGES, LABELS = tiny_vision.images()
DEEP = {"depth": "deep"}


def fitted(model="vit", **options):
    model = tiny_vision.backbone(model) if isinstance(model, str) else model
    return LoPAImageClassifier(model, **SMALL | options).fit(IMAGES, LABELS)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"rank": 0}, {"gate": "concat"}, {"prompt_length": 0, "rank": 0}, DEEP,
        {"rank": 0, **DEEP}, {"prompt_layer": 1}, {"prompt_layer": 1, **DEEP},
    ],
    ids=str,
)  # fmt: skip
def test_a_graph_predicts_as_the_estimator_does(tmp_path, options):
    clf = fitted(**options)
    clf.to_onnx(tmp_path / "bars")
    predictor = OnnxPredictor(tmp_path / "bars")
    found = predictor.predict_proba(IMAGES)
    np.testing.assert_allclose(found, clf.predict_proba(IMAGES), **CLOSE)
    assert np.ptp(found, axis=0).max() > 1e-2  # images matter
    assert predictor.predict(IMAGES).tolist() == clf.predict(IMAGES).tolist()
    np.testing.assert_allclose(predictor.predict_proba(IMAGES[:1]), found[:1], **CLOSE)


@pytest.mark.stress
@pytest.mark.parametrize(
    ("family", "options"),
    [("beit", {"prompt_layer": 1}), *((f, DEEP) for f in tiny_vision.FAMILIES if f != "vit")],
    ids=str,
)
def test_all_families_go_into_a_graph(tmp_path, family, options):
    clf = fitted(family, **options)
    clf.to_onnx(tmp_path / "m.onnx")
    found = OnnxPredictor(tmp_path / "m.onnx").predict_proba(IMAGES)
    np.testing.assert_allclose(found, clf.predict_proba(IMAGES), **CLOSE)


def processor(**changes):
    made = tiny_vision.processor()
    other_ways = "do_center_crop" in changes or "shortest_edge" in changes.get("size", {})
    if type(made.size) is dict and other_ways:
        pytest.skip("this version's processor of ViT resizes to height and width, and no more")
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def sides(**lengths):
    """As the processors of this version hold sizes."""
    kind = type(tiny_vision.processor().size)
    return lengths if kind is dict else kind(**lengths)


PROCESSORS = {
    "shorter_side_and_middle": {
        "size": sides(shortest_edge=20), "do_center_crop": True,
        "crop_size": sides(height=16, width=16), "resample": 3,
    },
    "middle_of_smaller_ones": {
        "size": sides(height=13, width=11), "do_center_crop": True,
        "crop_size": sides(height=16, width=16),
    },
    "each_channel_apart": {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.3, 0.2]},
    "not_rescaled": {"do_rescale": False, "image_mean": [99.0] * 3, "image_std": [60.0] * 3},
    "not_normalised": {"do_normalize": False},
}  # fmt: skip


@pytest.mark.parametrize("name", PROCESSORS)
def test_images_of_all_kinds_are_prepared_as_the_estimator_does(tmp_path, name):
    made = processor(**PROCESSORS[name])
    clf = fitted(Backbone.from_objects(tiny_vision.model(), made))
    clf.to_onnx(tmp_path / "m")
    random = np.random.RandomState(0)
    pixels = random.randint(0, 256, size=(31, 24, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    rows = [
        pixels, pixels[:9, :, 0], random.rand(40, 20), Image.fromarray(pixels).convert("P"),
        tmp_path / "image.png", Image.fromarray(pixels).convert("RGBA"),
    ]  # fmt: skip
    found = OnnxPredictor(tmp_path / "m").predict_proba(rows)
    np.testing.assert_allclose(found, clf.predict_proba(rows), **CLOSE)


def test_pixels_of_another_kind_are_refused(tmp_path):
    fitted().to_onnx(tmp_path / "m")
    with raises(InvalidInput, "row 1", "0 to 1"):
        OnnxPredictor(tmp_path / "m").predict([IMAGES[0], IMAGES[0] * 1.0])


def test_it_reads_without_torch_and_transformers(tmp_path):
    clf = fitted()
    clf.to_onnx(tmp_path / "m")
    np.save(tmp_path / "images.npy", IMAGES)
    absent = (
        "torch", "transformers", "onnx", "safetensors", "tokenizers", "huggingface_hub"
    )  # fmt: skip
    code = (
        "import json, numpy\n"
        "from sklopa import OnnxPredictor\n"
        f"p = OnnxPredictor({str(tmp_path / 'm')!r}, n_threads=1)\n"
        f"print(json.dumps(p.predict_proba(numpy.load({str(tmp_path / 'images.npy')!r})).tolist()))"
    )
    printed = printed_without(absent, code)
    np.testing.assert_allclose(json.loads(printed), clf.predict_proba(IMAGES), **CLOSE)


class Inverting:
    """An image processor that does more than it tells."""

    def __init__(self):
        self.inner = tiny_vision.processor()

    def __call__(self, images, **options):
        return self.inner(images=images.point(lambda value: 255 - value), **options)

    def to_dict(self):
        return self.inner.to_dict()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": sides(shortest_edge=16)}, "different sizes"),
        ({"size": sides(shortest_edge=16, longest_edge=16)}, "does more to an image"),
        (None, "Inverting does more to an image"),
    ],
    ids=["no one size", "sides of a kind not known", "own steps"],
)
def test_a_preparation_that_needs_transformers_is_named(tmp_path, change, reason):
    made = processor(**(change or {}))
    clf = fitted(Backbone.from_objects(tiny_vision.model("dinov2"), made))
    if change is None:
        clf._network.live().frozen.processor = Inverting()
    with raises(UnsupportedBackbone, reason):
        clf.to_onnx(tmp_path / "m")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    fitted().to_onnx(folder / "m")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


FORGED = {
    "another_size": lambda m: m["reading"].update(size=[20, 16]),
    "no_size": lambda m: m["reading"].update(size=None),
    "a_size_without_end": lambda m: m["reading"].update(size=[1 << 40, 1 << 40]),
    "a_size_of_no_number": lambda m: m["reading"].update(size="ab"),
    "an_unknown_filter": lambda m: m["reading"].update(resample=77),
    "a_spread_of_zero": lambda m: m["reading"].update(std=[0.0, 1.0, 1.0]),
    "a_mean_of_no_number": lambda m: m["reading"].update(mean=[float("nan")] * 3),
    "more_channels": lambda m: m["reading"].update(mean=[0.0] * 4),
    "more_than_is_known": lambda m: m["reading"].update(run="x"),
    "no_reading": lambda m: m.pop("reading"),
    "texts": lambda m: m.update(reads="texts"),
    "nothing_known": lambda m: m.update(reads=["images"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_description_is_refused(tmp_path, written, name):
    manifest = json.loads(written["m.json"])
    del manifest["sha256"]
    FORGED[name](manifest)
    for file, data in written.items():
        (tmp_path / file).write_bytes(data)
    (tmp_path / "m.json").write_bytes(files.seal(manifest))
    with pytest.raises(InvalidArchive):
        OnnxPredictor(tmp_path / "m")


def test_tasks_over_one_model_share_its_weights(tmp_path):
    for i in range(2):
        fitted(rank=1 + i, random_state=i).to_onnx(tmp_path / f"task{i}")
    assert len(list(tmp_path.glob("weights-*"))) == 1
    assert not list(tmp_path.glob("tokenizer-*"))
