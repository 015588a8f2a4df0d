"""Images in every form that users hold them in, and clear words about those that are none."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_vision as tiny
import torch
from helpers import raises
from PIL import Image

from sklopa._inputs.images import check_images
from sklopa._tokens.pixels import PixelReader

GREY = tiny.images(5)[0]
COLOUR = np.random.RandomState(0).randint(0, 256, (5, 9, 7, 3)).astype(np.uint8)


def pixels(X):
    """What a model reads of X."""
    rows, n_truncated = PixelReader(tiny.processor(), "test").read(check_images(X).rows)
    assert n_truncated == 0
    return rows[0].collate(rows).values


def files(folder, images=GREY, suffix="png"):
    paths = [Path(folder, f"{i}.{suffix}") for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


FORMS = {
    "array": lambda folder: GREY,
    "array_with_a_channel": lambda folder: GREY[..., None],
    "array_of_three_equal_channels": lambda folder: np.repeat(GREY[..., None], 3, axis=3),
    "floats": lambda folder: GREY / 255,
    "float32": lambda folder: (GREY / 255).astype(np.float32),
    "list_of_arrays": lambda folder: list(GREY),
    "read_only_view": lambda folder: np.broadcast_to(GREY, GREY.shape),
    "pil": lambda folder: [Image.fromarray(image) for image in GREY],
    "pil_colour": lambda folder: [Image.fromarray(image).convert("RGB") for image in GREY],
    "pil_palette": lambda folder: [Image.fromarray(image).convert("P") for image in GREY],
    "pil_with_alpha": lambda folder: [Image.fromarray(image).convert("RGBA") for image in GREY],
    "paths": files,
    "tuple_of_paths": lambda folder: tuple(files(folder)),
    "series_of_paths": lambda folder: pd.Series(files(folder), index=[3, 3, 1, 0, 2]),
    "object_array_of_paths": lambda folder: np.array(files(folder), dtype=object),
    "mixed": lambda folder: [*files(folder)[:2], GREY[2], *map(Image.fromarray, GREY[3:])],
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_of_the_same_images_are_read_alike(form, tmp_path):
    expected = torch.from_numpy(GREY / 127.5 - 1).float().unsqueeze(1).expand(-1, 3, -1, -1)
    torch.testing.assert_close(pixels(FORMS[form](tmp_path)), expected, atol=1e-6, rtol=0)


def test_colour_images_keep_their_channels_and_are_resized():
    plain = np.zeros((1, 40, 24, 3), dtype=np.uint8)
    plain[..., 1] = 255
    found = pixels(plain)
    assert found.shape == (1, 3, tiny.SIZE, tiny.SIZE)
    assert [found[0, c].unique().tolist() for c in range(3)] == [[-1], [1], [-1]]


def test_images_of_different_sizes_go_together_where_the_processor_resizes():
    assert pixels([GREY[0], COLOUR[0], Image.fromarray(COLOUR[1])]).shape[0] == 3


def test_images_of_different_sizes_are_refused_where_it_does_not():
    processor = tiny.processor()
    processor.do_resize = False
    rows, _ = PixelReader(processor, "no resize").read(check_images([GREY[0], COLOUR[0]]).rows)
    with raises(ValueError, "different sizes", "(9, 7)", "(16, 16)"):
        rows[0].collate(rows)


def test_a_photo_that_a_camera_turned_is_turned_back(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turned by 90 degrees
    path = tmp_path / "turned.png"
    Image.fromarray(GREY[0]).save(path, exif=exif)
    torch.testing.assert_close(pixels([path]), pixels([np.rot90(GREY[0], -1)]))


def test_the_digest_is_that_of_the_content_and_of_nothing_else(tmp_path):
    def digests(X):
        return [picture.digest for picture in check_images(X).rows]

    assert digests(GREY) == digests(GREY.copy()) == digests(list(GREY))
    assert digests(files(tmp_path)) == digests(files(tmp_path))
    pil = [Image.fromarray(image) for image in GREY]
    assert digests(pil) == digests([image.copy() for image in pil])
    assert len(set(digests([*GREY, *COLOUR, *pil]))) == 15
    turned = np.ascontiguousarray(GREY[:1].reshape(1, 8, 32))
    assert digests(turned) != digests(GREY[:1])  # the same bytes, another shape
    one = Image.fromarray(GREY[0]).convert("P")
    other = one.copy()
    other.putpalette([255 - v for v in one.getpalette()])
    assert digests([one]) != digests([other])


def test_images_are_not_changed(tmp_path):
    kept = GREY.copy()
    GREY.setflags(write=False)
    pixels(GREY)
    np.testing.assert_array_equal(GREY, kept)


def test_memory_maps_are_read(tmp_path):
    np.save(tmp_path / "x.npy", GREY)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    torch.testing.assert_close(pixels(mapped), pixels(GREY))


@pytest.mark.parametrize(
    ("X", "builtin", "parts"),
    [
        ("photo.png", TypeError, ["one str", "[image]"]),
        (Path("photo.png"), TypeError, ["Path", "[image]"]),
        (b"bytes", TypeError, ["one bytes"]),
        (None, TypeError, ["NoneType"]),
        (Image.fromarray(GREY[0]), TypeError, ["one Image", "[image]"]),
        (GREY[0], TypeError, ["shape (16, 16)", "X.reshape(-1, height, width)"]),
        (COLOUR[0], ValueError, ["(9, 7, 3)", "one colour image", "X[None]"]),
        (pd.DataFrame({"a": [1]}), TypeError, ["DataFrame", "column"]),
        ([], ValueError, ["0 sample", "at least one image"]),
        (GREY[:0], ValueError, ["0 sample"]),
        ([GREY[0], "photo.png"], TypeError, ["row 1", "str", "Path('photo.png')"]),
        ([GREY[0], None], TypeError, ["row 1", "NoneType"]),
        ([GREY[0], torch.zeros(3, 3)], TypeError, ["row 1", "Tensor"]),
        ([GREY[0], np.zeros(4, np.uint8)], ValueError, ["row 1", "shape (4,)"]),
        ([np.zeros((4, 4, 2), np.uint8)], ValueError, ["row 0", "(4, 4, 2)"]),
        (np.zeros((2, 0, 4), np.uint8), ValueError, ["row 0", "(0, 4)"]),
        (np.moveaxis(COLOUR, 3, 1), ValueError, ["(3, 9, 7)", "image.transpose(1, 2, 0)"]),
        (GREY.astype(int), TypeError, ["row 0", "int64", "uint8 from 0 to 255"]),
        (GREY / 16, ValueError, ["row 0", "from 0 to", "Divide"]),
        (GREY / 255 - 1, ValueError, ["row 0", "from -1"]),
        ([GREY[0], np.full((4, 4), np.nan)], ValueError, ["row 1", "nan"]),
        ([Image.fromarray(GREY[0]).convert("F")], ValueError, ["row 0", "mode 'F'", "floats"]),
        ([GREY[0], Path("no-such-file.png")], ValueError, ["row 1", "no-such-file.png"]),
        (np.ma.array(GREY, mask=GREY > 200), ValueError, ["row 0", "masked", "image.filled(0)"]),
        ([GREY[0], np.ma.array(GREY[1], mask=True)], ValueError, ["row 1", "masked"]),
        (frozenset([1]), TypeError, ["frozenset"]),
        ({"a": GREY[0]}.keys(), TypeError, ["dict_keys"]),
        (torch.zeros(2, 4, 4, requires_grad=True), TypeError, ["Tensor", "detach()"]),
        ([GREY[0], Path("a\0b")], ValueError, ["row 1", "cannot be read", "null"]),
        ([Path(__file__).parent], ValueError, ["row 0", "tests", "no file"]),
        ([Image.new("RGB", (0, 4))], ValueError, ["row 0", "(0, 4)"]),
        ([Image.new("La", (4, 4))], ValueError, ["row 0", "cannot be read", "La"]),
        ([Path(__file__)], ValueError, ["row 0", "test_images.py", "cannot be read"]),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused_by_row_with_the_next_step(X, builtin, parts):
    with raises(builtin, *parts):
        check_images(X)


def test_a_file_cut_off_in_the_middle_is_named(tmp_path):
    (path,) = files(tmp_path, COLOUR[:1].repeat(20, axis=1).repeat(20, axis=2))
    path.write_bytes(path.read_bytes()[:-200])
    with raises(ValueError, str(path), "cannot be read"):
        pixels([path])


def test_an_image_that_was_closed_or_is_cut_off_is_named_by_row(tmp_path):
    (path,) = files(tmp_path, COLOUR[:1].repeat(20, axis=1).repeat(20, axis=2))
    with Image.open(path) as closed:
        pass
    cut = tmp_path / "cut.png"
    cut.write_bytes(path.read_bytes()[:-200])
    for image in (closed, Image.open(cut)):
        with raises(ValueError, "row 1", "cannot be read"):
            check_images([GREY[0], image])


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with raises(ValueError, "row 0", "pipe", "no file"):
        check_images([tmp_path / "pipe"])


def test_an_image_that_is_too_large_to_be_one_is_named(tmp_path, monkeypatch):
    (path,) = files(tmp_path, GREY[:1])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with raises(ValueError, "row 0", str(path), "pixels"):
        check_images([path])


def test_a_file_that_is_gone_when_it_is_read_is_named(tmp_path):
    (path,) = files(tmp_path, GREY[:1])
    (picture,) = check_images([path]).rows
    path.unlink()
    for read in (picture.rgb, lambda: picture.digest):
        with raises(ValueError, str(path), "cannot be read"):
            read()


def test_without_pillow_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    with raises(ImportError, "Pillow", "pip install pillow"):
        check_images(GREY)
