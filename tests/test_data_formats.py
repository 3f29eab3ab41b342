"""Pixels and labels from files of every format, and what is said of files that are none."""

import os
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import RNG, everything, refused, sizes, write_images
from PIL import Image

from wna_jax.data import load
from wna_jax.data.folder import read_folder
from wna_jax.data.images import decode


def test_folder_of_images_and_of_classes(tmp_path: Path) -> None:
    cats, dogs = tmp_path / "cat", tmp_path / "dog"
    write_images(cats, 20)
    (cats / "notes.txt").write_text("not an image")
    data = load(f"folder:{cats}")
    assert (sizes(data), data.image_shape, data.class_names) == ([15, 1, 4], (4, 6, 1), ("image",))
    assert data.title == "folder:cat"
    written = {np.asarray(Image.open(path)).tobytes() for path in cats.glob("*.png")}
    assert {image.tobytes() for image in everything(data)[0]} == written

    write_images(dogs, 10, "RGB")
    (tmp_path / "no_images").mkdir()
    data = load(f"folder:{tmp_path}")
    images, labels = everything(data)
    assert (data.image_shape, data.class_names, np.bincount(labels).tolist()) == ((4, 6, 3), ("cat", "dog"), [20, 10])
    np.testing.assert_array_equal((np.ptp(images, axis=-1) == 0).all(axis=(1, 2)), labels == 0)  # the cats are grey


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: write_images(folder, 1, "RGB", (5, 4)), ["L00.png is 6x4", "RGB00.png is 5x4", "resize"]),
        (lambda folder: (folder / "L03.png").write_bytes(b"no image"), ["L03.png", "not a readable image"]),
        (lambda folder: os.truncate(folder / "L03.png", 60), ["L03.png", "not a readable image"]),
        (lambda folder: Image.new("F", (6, 4)).save(folder / "x.tif"), ["x.tif", "mode F", "8 or 16 bits"]),
        (lambda folder: write_images(folder / "more", 2), ["both images and subfolders"]),
        (lambda folder: [path.unlink() for path in folder.glob("L0*")], ["holds 2 images", "at least 10"]),
        (lambda folder: folder.rename(folder.with_name("elsewhere")), ["is not a folder"]),
    ],
)
def test_spoilt_folder_is_refused(tmp_path: Path, spoil: Callable, words: list[str]) -> None:
    write_images(tmp_path / "images", 12)
    spoil(tmp_path / "images")
    with refused(str(tmp_path / "images"), *words):
        load(f"folder:{tmp_path / 'images'}")


GREY = RNG.integers(0, 256, (4, 6), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (4, 6), dtype=np.uint8)
WIDE = RNG.integers(0, 65536, (4, 6), dtype=np.uint16)  # 16 bits
ON_BLACK = np.rint(COLOUR * (ALPHA[..., None] / 255.0)).astype(np.uint8)
PALETTE = RNG.integers(0, 256, (256, 3), dtype=np.uint8)


def saved(image: Image.Image, path: Path, **options: Any) -> np.ndarray:
    image.save(path, **options)
    return decode(path.read_bytes())


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".gif", ".webp", ".PNG", ".ppm", ".pgm"])
def test_lossless_formats_keep_every_pixel(tmp_path: Path, suffix: str) -> None:
    options: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
    written = RNG.integers(0, 256, (12, 4, 6), dtype=np.uint8)
    for number, pixels in enumerate(written):
        Image.fromarray(pixels).save(tmp_path / f"{number:02}{suffix}", **options)
    np.testing.assert_array_equal(read_folder(tmp_path).train.images[..., 0], written)


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    expected = np.rint(WIDE / 65535 * 255)[..., None]
    for name in ("x.png", "x.tif", "x.pgm"):
        np.testing.assert_array_equal(saved(Image.fromarray(WIDE), tmp_path / name), expected)
    twelve = WIDE >> 4
    decoded = decode(b"P5\n6 4\n4095\n" + twelve.astype(">u2").tobytes())  # the file says that 4095 is white
    np.testing.assert_allclose(decoded[..., 0], twelve / 4095 * 255, atol=0.51)
    inverted = saved(Image.fromarray(WIDE), tmp_path / "x.tif", tiffinfo={262: 0})
    np.testing.assert_array_equal(inverted, np.rint((65535 - WIDE.astype(int)) / 257)[..., None])


def test_what_is_transparent_has_black_behind_it(tmp_path: Path) -> None:
    rgba, greys = np.dstack([COLOUR, ALPHA]), np.dstack([GREY, ALPHA])
    assert (saved(Image.fromarray(rgba), tmp_path / "x.png") == ON_BLACK).all()
    assert (saved(Image.fromarray(rgba), tmp_path / "x.tif") == ON_BLACK).all()
    assert (saved(Image.fromarray(rgba), tmp_path / "x.webp", lossless=True, exact=True) == ON_BLACK).all()
    on_black = np.rint(GREY * (ALPHA / 255.0))[..., None]
    assert (saved(Image.fromarray(greys), tmp_path / "la.png") == on_black).all()
    opaque = np.dstack([COLOUR, np.full_like(ALPHA, 255)])
    assert (saved(Image.fromarray(opaque), tmp_path / "x.png") == COLOUR).all()
    level = int(GREY[1, 2])
    keyed = saved(Image.fromarray(GREY), tmp_path / "key.png", transparency=level)
    assert (keyed[..., 0] == np.where(level == GREY, 0, GREY)).all()


def test_palettes_inks_and_bits_become_pixels(tmp_path: Path) -> None:
    palette = Image.fromarray(GREY)
    palette = Image.frombytes("P", palette.size, palette.tobytes())
    palette.putpalette(PALETTE.tobytes())
    for name in ("p.png", "p.gif", "p.bmp", "p.tif"):
        assert (saved(palette, tmp_path / name) == PALETTE[GREY]).all(), name
    hidden = np.where(np.arange(256)[:, None] < 99, 0, PALETTE)
    through = saved(palette, tmp_path / "p.png", transparency=bytes([0] * 99 + [255] * 157))
    assert (through == hidden[GREY]).all()
    inks = RNG.integers(0, 256, (4, 6, 4), dtype=np.uint8)
    light = (255 - inks[..., :3].astype(float)) * (255 - inks[..., 3:].astype(float)) / 255
    cmyk = saved(Image.frombytes("CMYK", (6, 4), inks.tobytes()), tmp_path / "c.tif")
    np.testing.assert_allclose(cmyk, light, atol=1)
    bits = Image.fromarray(GREY > 127)
    for name in ("b.png", "b.pbm", "b.tif", "b.bmp"):
        assert (saved(bits, tmp_path / name)[..., 0] == np.where(GREY > 127, 255, 0)).all(), name


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    for name, options in (("a.gif", {}), ("a.png", {}), ("a.tif", {}), ("a.webp", {"lossless": True})):
        first = saved(frames[0], tmp_path / name, save_all=True, append_images=frames[1:], **options)
        assert (first[..., :1] == GREY[..., None]).all(), name


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_photographs_are_turned_upright(tmp_path: Path, suffix: str) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = 255  # white in the upper left corner alone
    stored = {
        **{1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2)},
        **{6: np.rot90(upright, 1), 7: upright[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(upright, -1)},
    }
    for orientation, pixels in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        seen = saved(Image.fromarray(np.ascontiguousarray(pixels)), tmp_path / f"x.{suffix}", exif=exif)
        assert seen.shape == upright.shape
        np.testing.assert_allclose(seen.astype(int), upright.astype(int), atol=40, err_msg=f"{orientation}")


def write_classes(folder: Path, count: int = 10, side: int = 5, names: tuple[str, ...] = ("ant", "bee")) -> None:
    for name in names:
        write_images(folder / name, count, size=(side, side))


@pytest.mark.parametrize("held_out", ["test", "Val", "validation", "testing"])
def test_folders_of_splits_are_kept_apart(tmp_path: Path, held_out: str) -> None:
    write_classes(tmp_path / "train")
    write_classes(tmp_path / held_out, 3)
    data = load(f"folder:{tmp_path}")
    assert (data.class_names, sizes(data)) == (("ant", "bee"), [18, 2, 6])
    written = {np.asarray(Image.open(path)).tobytes() for path in (tmp_path / held_out).rglob("*.png")}
    assert {image.tobytes() for image in data.test.images} == written
    assert data.test.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_validation_folder_beside_a_test_folder_is_the_validation_split(tmp_path: Path) -> None:
    write_classes(tmp_path / "train")
    write_classes(tmp_path / "val", 2)
    write_classes(tmp_path / "test", 3, names=("bee",))
    data = load(f"folder:{tmp_path}")
    assert sizes(data) == [20, 4, 3]
    assert (data.validation.labels.tolist(), data.test.labels.tolist()) == ([0, 0, 1, 1], [1, 1, 1])
    assert sizes(load(f"folder:{tmp_path}:bee,ant")) == [20, 4, 3]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: write_classes(folder / "test", names=("cat",)), ["test has cat", "train has not"]),
        (lambda folder: write_images(folder / "test", 3), ["test has image", "train/CLASS/IMAGE"]),
        (lambda folder: write_classes(folder / "training"), ["one folder per split", "train, training"]),
        (lambda folder: (folder / "extra").mkdir(), ["ant holds images too far down", "train/CLASS/IMAGE"]),
        (lambda folder: (folder / "val").mkdir(), ["val holds no images"]),
        (lambda folder: write_images(folder, 3), ["ant holds images too far down"]),
        (lambda folder: write_classes(folder / "train" / "ant"), ["holds images too far down"]),
    ],
)
def test_folders_of_splits_that_do_not_belong_together_are_refused(
    tmp_path: Path, spoil: Callable, words: list[str]
) -> None:
    write_classes(tmp_path / "train")
    spoil(tmp_path)
    with refused(str(tmp_path), *words):
        load(f"folder:{tmp_path}")


def test_test_images_that_are_training_images_are_said(tmp_path: Path) -> None:
    write_classes(tmp_path / "train")
    write_classes(tmp_path / "test", 3)
    (tmp_path / "test" / "bee" / "copy.png").write_bytes((tmp_path / "train" / "ant" / "L00.png").read_bytes())
    with pytest.warns(UserWarning, match="1 of 7 test images are training images too"):
        load(f"folder:{tmp_path}")


def test_pictures_of_any_size_are_resized_on_request(tmp_path: Path) -> None:
    write_images(tmp_path, 12, "RGB", (30, 20))
    write_images(tmp_path, 12, "L", (9, 16))
    with refused("RGB00.png is 30x20", "--image_size=64"):
        load(f"folder:{tmp_path}")
    data = load(f"folder:{tmp_path}", image_size=16)
    assert (data.image_shape, data.name) == ((16, 16, 3), f"folder:{tmp_path}_16x16")
    source = read_folder(tmp_path, 16)
    first = Image.open(tmp_path / "RGB00.png").resize((16, 16), Image.Resampling.LANCZOS)
    assert (source.train.images[12] == np.asarray(first)).all()
    fitting = load(f"folder:{tmp_path}", image_size=9).fingerprint
    assert fitting != data.fingerprint


def test_resizing_to_the_size_that_is_there_changes_nothing(tmp_path: Path) -> None:
    write_images(tmp_path, 12, size=(8, 8))
    plain, asked = load(f"folder:{tmp_path}"), load(f"folder:{tmp_path}", image_size=8)
    assert (asked.name, asked.fingerprint) == (plain.name, plain.fingerprint)
    with refused("image_size is 0"):
        load("digits", image_size=0)
    assert load("digits", image_size=14).fingerprint == load("digits").resized(14).fingerprint


def bomb(side: int) -> bytes:
    """A 1-bit image of side x side pixels in few bytes: PBM, of which nothing follows the header."""
    return f"P4\n{side} {side}\n".encode()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 4\n"),
        lambda path: path.write_bytes(bomb(12_000)),
        lambda path: path.write_bytes(bomb(99_000)),
        lambda path: path.unlink() or path.symlink_to(path),
        lambda path: path.unlink() or path.symlink_to("nowhere"),
        lambda path: subprocess.run(f"rm {path} && mkfifo {path}", shell=True, check=True),
        lambda path: Image.fromarray(np.full((4, 6), 0.5, np.float32)).save(path, "TIFF"),
        lambda path: Image.fromarray(np.full((4, 6), 70_000, np.int32)).save(path, "TIFF"),
        lambda path: Image.fromarray(WIDE).save(path, "PNG", transparency=7),
    ],
)
def test_files_that_are_no_images_are_named(tmp_path: Path, spoil: Callable) -> None:
    write_images(tmp_path, 12)
    spoil(tmp_path / "L03.png")
    with refused("L03.png", "not a readable image", "repair or remove it"):
        load(f"folder:{tmp_path}")


def test_a_flipped_bit_in_a_png_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, 12)
    path = tmp_path / "L03.png"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)
    with refused("L03.png", "not a readable image"):
        load(f"folder:{tmp_path}")


def test_hidden_files_are_passed_over_and_folders_are_no_images(tmp_path: Path) -> None:
    write_classes(tmp_path)
    for hidden in (tmp_path / "._x.png", tmp_path / "ant" / "._L00.png"):
        hidden.write_bytes(b"of a Macintosh")
    write_images(tmp_path / ".cache", 3)
    (tmp_path / "bee").rename(tmp_path / "bee.png")
    (tmp_path / "ant" / "loop").symlink_to("loop")
    assert load(f"folder:{tmp_path}").class_names == ("ant", "bee.png")


def test_folders_that_may_not_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path)
    genuine = Path.iterdir

    def iterdir(path: Path) -> Any:
        if path.name == "bee":
            raise PermissionError(13, "Permission denied", str(path))
        return genuine(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with refused(f"folder:{tmp_path}", "Permission denied", "permissions"):
        load(f"folder:{tmp_path}")


def test_names_that_cannot_be_printed_are_escaped(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\nbar"))
    names = [os.fsdecode(b"caf\xe9"), "two\nlines", "Ärger"]
    for name in names:
        write_images(folder / name, 5)
    data = load(f"folder:{folder}")
    assert data.class_names == ("caf\\udce9", "two\\nlines", "Ärger")
    assert (data.title, data.name) == ("folder:caf\\udce9\\nbar", f"folder:{tmp_path}/caf\\udce9\\nbar")
    f"{data}".encode()  # for files in UTF-8
    (folder / names[0] / "L00.png").write_bytes(b"")
    with refused("caf\\udce9/L00.png", "not a readable image"):
        load(f"folder:{folder}")


@pytest.mark.parametrize("path", ["~nobody_of_this_name/x", "\0", "x" * 300, "nowhere"])
@pytest.mark.parametrize("kind", ["folder", "arrays"])
def test_paths_that_lead_nowhere_are_said(kind: str, path: str) -> None:
    with refused(kind):
        load(f"{kind}:{path}")


def test_no_warning_of_pillow_reaches_the_user(tmp_path: Path) -> None:
    palette = Image.fromarray(GREY).convert("P")
    palette.save(tmp_path / "p.png", transparency=bytes(range(256)))
    Image.fromarray(COLOUR).save(tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in tmp_path.iterdir():
            assert decode(path.read_bytes()).shape == (4, 6, 3)


def test_grey_images_are_the_mean_of_the_channels(tmp_path: Path) -> None:
    for i in range(12):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), (10, 200, 20 * i), np.uint8)).save(tmp_path / "ab"[i % 2] / f"{i:02}.png")
    colour, grey = load(f"folder:{tmp_path}"), load(f"folder:{tmp_path}:grey")
    assert grey.image_shape == (8, 8, 1)
    np.testing.assert_array_equal(grey.train.images[..., 0], np.round(colour.train.images.mean(axis=-1)))
    np.testing.assert_array_equal(grey.train.labels, colour.train.labels)
    assert grey.fingerprint != colour.fingerprint
