"""What the data sets are, and what is said when they are not there or not what they should be."""

import gzip
import hashlib
import importlib.util
import os
import pwd
import re
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import everything, idx, prepare, refused, sizes, write_images

from wna_jax.data import Dataset, load, published
from wna_jax.data.dataset import assemble
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Progress, silent

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
needs_data = pytest.mark.skipif("WNA_JAX_TEST_DATA" not in os.environ, reason="WNA_JAX_TEST_DATA names no data_dir")
REAL_DATA = Path(os.environ.get("WNA_JAX_TEST_DATA", "")).absolute()  # now: the tests work in other directories
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data but those of the test, and no network."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WNA_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    genuine = urllib.request.urlopen

    def urlopen(url: str, timeout: float) -> Any:
        if url.startswith("file:"):
            return genuine(url, timeout=timeout)
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)


@pytest.fixture
def small_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The uncompressed IDX files of 40 train and 6 test images, which begin with their number; below "data".

    They are the published ones.
    """
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for kind, count in (("train", 40), ("t10k", 6)):
        images = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        images[:, 0, 0] = np.arange(count)
        (folder / f"{kind}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{kind}-labels-idx1-ubyte").write_bytes(idx(np.arange(count, dtype=np.uint8) % 10))
    publish(monkeypatch, "mnist", list(folder.iterdir()))
    return folder


def publish(monkeypatch: pytest.MonkeyPatch, name: str, paths: list[Path]) -> None:
    table = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    assert table.keys() == published.CONTENTS[name].keys()
    monkeypatch.setitem(published.CONTENTS, name, table)


def test_digits_are_split_once_and_for_all() -> None:
    data, again = load("digits"), load("digits")
    images, labels = everything(data)
    assert sizes(data) == [1295, 143, 359]
    assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
    assert (data.image_shape, data.num_classes, data.class_names) == ((28, 28, 1), 10, tuple("0123456789"))
    assert (images.min(), images.max()) == (0, 255)
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    # The 1,797 pictures are all different, so this also says that the splits are disjoint.
    assert len({image.tobytes() for image in images}) == 1797
    np.testing.assert_array_equal(everything(again)[0], images)
    assert again.fingerprint == data.fingerprint
    zero, one = (images[labels == digit].mean(axis=0)[14, 14, 0] for digit in (0, 1))
    assert zero < 50 < one  # a zero is empty in the middle


def test_mean_and_deviation_are_those_of_the_train_pixels(tmp_path: Path) -> None:
    write_images(tmp_path, 30, "RGB")
    data = load(f"folder:{tmp_path}")
    pixels = data.train.images / 255
    np.testing.assert_allclose(data.mean(), pixels.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(data.deviation(), pixels.std(axis=(0, 1, 2)), rtol=1e-6)
    assert data.mean().dtype == data.deviation().dtype == np.float32


def test_chosen_classes_are_those_of_the_whole_set_in_the_order_given(digits: Dataset) -> None:
    pair = load("digits:7,2")
    assert (pair.class_names, pair.num_classes) == (("7", "2"), 2)
    images, labels = everything(pair)
    all_images, all_labels = everything(digits)
    for new, old in enumerate((7, 2)):
        chosen, expected = images[labels == new], all_images[all_labels == old]
        assert {image.tobytes() for image in chosen} == {image.tobytes() for image in expected}
        assert len(chosen) == len(expected)
    assert len(labels) == 179 + 177
    assert pair.fingerprint != load("digits:2,7").fingerprint != digits.fingerprint


def test_a_folder_one_too_deep_is_said(small_mnist: Path) -> None:
    for path in small_mnist.iterdir():
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match=re.escape(f"give the folder above, data_dir={small_mnist.parent}")):
        load("mnist", small_mnist)


def test_chosen_classes_of_published_files_keep_their_splits(small_mnist: Path) -> None:
    data = load("mnist:5,3", small_mnist.parent)
    assert data.test.images[:, 0, 0, 0].tolist() == [3, 5]
    assert data.test.labels.tolist() == [1, 0]
    assert len(data.train.labels) + len(data.validation.labels) == 8


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mnist:5,12", ["unknown class of mnist:5,12", "'12'", "choose one of 0, 1, 2"]),
        ("mnist:5,", ["unknown class", "''"]),
        ("mnist:5,5", ["mnist:5,5", "given twice", "give each class once"]),
        ("digits:5", ["data set 'digits:5' names one class: choose two or more, as in digits:5,..."]),
        ("folder:", ["data set 'folder:' names nothing: expected a path"]),
        ("/", ["data set '/' is a path: give folder:PATH or arrays:PATH, here folder:/"]),
        ("arrays:nowhere.npz", ["nowhere.npz does not exist: expected arrays:PATH"]),
        ("digit:5,6", ["unknown data set 'digit'", "did you mean digits?"]),
    ],
)
def test_classes_that_cannot_be_chosen_are_named(small_mnist: Path, name: str, words: list[str]) -> None:
    with refused(*words):
        load(name, small_mnist.parent)


def test_classes_of_a_folder_can_be_chosen_and_commas_in_its_path_are_no_choice(tmp_path: Path) -> None:
    for class_name in ("ant", "bee", "cat"):
        write_images(tmp_path / "a,b" / class_name, 10)
    assert load(f"folder:{tmp_path / 'a,b'}").class_names == ("ant", "bee", "cat")
    assert load(f"folder:{tmp_path / 'a,b'}:cat,ant").class_names == ("cat", "ant")


def test_idx_files_come_back_in_order(small_mnist: Path) -> None:
    data = load("mnist", small_mnist.parent)
    assert sizes(data) == [36, 4, 6]
    images, labels = everything(data)
    numbers = images[:, 0, 0, 0]
    assert (np.diff(numbers[:36]) > 0).all()
    assert sorted(numbers[:40]) == list(range(40))
    np.testing.assert_array_equal(labels, numbers % 10)
    assert (small_mnist / TEST_IMAGES).read_bytes()[16:] == data.test.images.tobytes()


def test_published_files_may_be_packed_otherwise_or_stand_where_torchvision_puts_them(small_mnist: Path) -> None:
    expected, given = load("mnist", small_mnist.parent).fingerprint, small_mnist.parent
    for level, path in enumerate(small_mnist.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 2 * level + 1))
        path.unlink()
    assert load("mnist", given).fingerprint == expected
    (given / "MNIST").mkdir()
    small_mnist.rename(given / "MNIST" / "raw")
    assert load("mnist", str(given)).fingerprint == expected


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        (TRAIN_IMAGES, lambda raw: raw[:-5], ["31,371 bytes", "expected 31,376", "40 items"]),
        (TRAIN_IMAGES, lambda raw: raw + b"x", ["31,377 bytes", "expected 31,376"]),
        (TRAIN_IMAGES, lambda raw: b"", ["not IDX"]),
        (TRAIN_LABELS, lambda raw: b"\x89PNG" + raw, ["not IDX", "89504e47", "expected 00000801"]),
        (TRAIN_IMAGES, lambda raw: idx(np.zeros((40, 8, 9), np.uint8)), ["checksum mismatch", "arrays:FOLDER"]),
        (TRAIN_LABELS, lambda raw: idx(np.zeros(39, np.uint8)), ["checksum mismatch", "published file"]),
        (TEST_LABELS, lambda raw: raw[:-1] + bytes((raw[-1] ^ 1,)), ["checksum mismatch", TEST_LABELS]),
        (f"{TEST_IMAGES}.gz", lambda raw: gzip.compress(raw[:-1] + b"!"), ["checksum mismatch", f"{TEST_IMAGES}.gz"]),
        (f"{TRAIN_IMAGES}.gz", lambda raw: gzip.compress(raw)[:9999], ["truncated", "published file"]),
        (f"{TRAIN_IMAGES}.gz", lambda raw: gzip.compress(raw)[:-8] + bytes(8), ["gzip", "incorrect data check"]),
        (f"{TRAIN_IMAGES}.gz", lambda raw: b"<html>not found</html>", ["not a gzip file"]),
    ],
)
def test_damaged_file_is_refused(small_mnist: Path, file: str, damage: Callable, words: list[str]) -> None:
    (small_mnist / file).write_bytes(damage((small_mnist / file.removesuffix(".gz")).read_bytes()))
    with refused("mnist", *words):
        load("mnist", small_mnist.parent)


def test_incomplete_set_says_what_is_missing(small_mnist: Path) -> None:
    (small_mnist / TEST_LABELS).unlink()
    with refused("mnist", f"lacks {TEST_LABELS}"):
        load("mnist", small_mnist.parent)


def test_absent_set_offline_says_where_it_looked_and_what_to_do(tmp_path: Path) -> None:
    places = [str(tmp_path / place / "cifar10") for place in ("empty", "home/tensorflow_datasets", "cache")]
    with refused("cifar-10-binary.tar.gz", "no route to host", "https://", "the data set digits", *places):
        load("cifar10", tmp_path / "empty")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("name", "data_dir", "words"),
    [
        ("Fashion-MNIST", None, ["did you mean fashion_mnist?", "digits", "cifar10", "folder:PATH", "tfds:NAME"]),
        ("svhn_cropped", None, ["unknown data set 'svhn_cropped'"]),
        ("", None, ["unknown data set ''"]),
        ("tfds:", None, ["no prepared directory"]),
        ("tfds:kmnist", None, ["tensorflow_datasets", "tfds.builder('kmnist', file_format='array_record')"]),
        ("mnist", "nowhere", ["nowhere", "not a directory"]),
    ],
)
def test_unknown_name_or_place_is_refused(name: str, data_dir: str | None, words: list[str]) -> None:
    with refused(*words):
        load(name, data_dir)


def test_without_tensorflow_datasets_only_prepared_directories_are_missed(
    small_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # which makes importing it fail
    assert sizes(load("mnist", small_mnist.parent)) == [36, 4, 6]
    assert load("digits").num_classes == 10
    (tmp_path / "x" / "1.0.0").mkdir(parents=True)
    for file in ("dataset_info.json", "x-train.array_record-00000-of-00001"):
        (tmp_path / "x" / "1.0.0" / file).write_bytes(b"")
    with refused("needs tensorflow_datasets", "pip install tensorflow-datasets"):
        load("tfds:x", tmp_path)


def test_where_nobody_is_at_home_data_are_found_all_the_same(
    small_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])  # as for a user number without a name
    assert sizes(load("mnist", small_mnist.parent)) == [36, 4, 6]
    with refused("no prepared directory"):
        load("tfds:x", small_mnist.parent)


def test_download_is_verified_and_kept(small_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, table, cache = load("mnist", small_mnist.parent).fingerprint, {}, tmp_path / "cache" / "mnist"
    for name in published.FILES["mnist"]:
        server, raw = tmp_path / name, gzip.compress((small_mnist / name.removesuffix(".gz")).read_bytes())
        server.write_bytes(raw)
        table[name] = published.Remote(server.as_uri(), len(raw), hashlib.sha256(raw).hexdigest())
    monkeypatch.setitem(published.FILES, "mnist", table)
    right = (tmp_path / f"{TEST_LABELS}.gz").read_bytes()
    (tmp_path / f"{TEST_LABELS}.gz").write_bytes(b"<html>please log in</html>")
    with refused("downloaded 26 bytes", f"expected {len(right)} bytes", "nothing was kept"):
        load("mnist")
    assert not (cache / f"{TEST_LABELS}.gz").exists()

    (tmp_path / f"{TEST_LABELS}.gz").write_bytes(right)
    reports: list[Progress] = []
    assert load("mnist", report=reports.append).fingerprint == expected
    assert {report.job: report.done for report in reports} == {report.job: report.total for report in reports} != {}
    assert {path.name: path.stat().st_size for path in cache.iterdir()} == {k: r.size for k, r in table.items()}
    for name in table:
        (tmp_path / name).unlink()
    assert load("mnist").fingerprint == expected


@pytest.mark.parametrize("as_archive", [False, True])
def test_cifar_files_become_nhwc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_archive: bool) -> None:
    folder, archive = tmp_path / "cifar10" / "cifar-10-batches-bin", tmp_path / "cifar10" / "cifar-10-binary.tar.gz"
    folder.mkdir(parents=True)
    record = np.repeat(np.array([1, 2, 3], np.uint8), 1024)
    record[33] = 77  # red, second row, second column
    for i, batch in enumerate(published.CONTENTS["cifar10"]):
        record[99] = i
        (folder / batch).write_bytes((b"\x09" + record.tobytes()) * 4)
    if as_archive:
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(folder, folder.name)
    with refused(str(archive if as_archive else folder), "data_batch_1.bin", "checksum mismatch"):
        load("cifar10", tmp_path)
    publish(monkeypatch, "cifar10", list(folder.iterdir()))
    data = load("cifar10", tmp_path)
    assert sizes(data) == [18, 2, 4]
    assert data.test.images[:, 0, 0].tolist() == [[1, 2, 3]] * 4
    assert data.test.images[:, 1, 1].tolist() == [[77, 2, 3]] * 4
    assert data.class_names[data.train.labels[0]] == "truck"
    damaged = archive if as_archive else folder / "data_batch_3.bin"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with refused(str(damaged), "truncated" if as_archive else "12,192 bytes"):
        load("cifar10", tmp_path)


@pytest.mark.filterwarnings("ignore:.* are training images too")
def test_prepared_directory_is_read_in_order_of_id(tmp_path: Path) -> None:
    prepare(tmp_path / "x" / "9.0.0", {"train": 20})
    prepare(tmp_path / "x" / "10.0.0", {"train": 30, "validation": 7, "test": 20})
    for name in ("x", "tfds:x", "tfds:x:10.0.0", "tfds:x/10.0.0"):
        data = load(name, tmp_path)
        assert (sizes(data), data.image_shape, data.class_names) == ([27, 3, 20], (5, 7, 1), ("even", "odd"))
        assert data.test.images[:, 4, 6, 0].tolist() == list(range(20))
        assert data.test.labels.tolist() == [0, 1] * 10
    assert sizes(load("tfds:x:9.0.0", tmp_path)) == [15, 1, 4]  # it has no test split


@pytest.mark.filterwarnings("ignore:.* are training images too")
def test_prepared_images_of_several_sizes_are_resized_on_request(tmp_path: Path) -> None:
    prepare(tmp_path / "x" / "1.0.0", {"train": 30, "test": 20}, unequal=True)
    with refused("expected train images of one shape", "--image_size"):
        load("x", tmp_path)
    data = load("x", tmp_path, image_size=8)
    assert (data.name, data.image_shape) == ("x_8x8", (8, 8, 1))
    assert data.test.images[:, 7, 3, 0].tolist() == list(range(20))


@pytest.mark.filterwarnings("ignore:.* are training images too")
def test_prepared_directory_of_no_use_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home" / "tensorflow_datasets"
    directory = prepare(home / "mnist" / "3.0.1", {"train": 20, "test": 5})
    assert sizes(load("mnist")) == [18, 2, 5]
    info = (directory / "dataset_info.json").read_text()
    (directory / "dataset_info.json").write_text(info.replace('"20"', '"19"'))
    with refused(str(directory), "train unreadable", "20 records, expected 19"):
        load("mnist")
    (directory / "dataset_info.json").write_text(info)
    (directory / "x-train.array_record-00000-of-00001").write_bytes(b"")
    with refused(str(directory), "train unreadable"):
        load("mnist")
    (directory / "features.json").write_text("{}")
    with refused(str(directory), "unreadable"):
        load("mnist")
    for path in list(directory.glob("x-*")):
        path.rename(directory / path.name.replace("array_record", "tfrecord"))
    with refused("array_record", "tfds.builder('mnist'"):
        load("mnist", home)
    with refused("no route to host"):  # nobody pointed at the one at home, so it is passed over
        load("mnist")
    prepare(home / "half" / "1.0.0", {"test": 20})
    with refused("half/1.0.0", "expected a split train, got test"):
        load("half")
    for configuration in ("a", "b"):
        prepare(home / "both" / configuration / "1.0.0", {"train": 20})
    with refused("tfds:both/a/1.0.0, tfds:both/b/1.0.0"):
        load("both")


@pytest.mark.parametrize("name", published.FILES)
def test_published_files_are_those_of_tensorflow_datasets(name: str) -> None:
    spec = importlib.util.find_spec("tensorflow_datasets")
    assert spec is not None
    assert spec.origin is not None
    table = (Path(spec.origin).parent / "url_checksums" / f"{name}.txt").read_text()
    rows = [row.split("\t") for row in table.splitlines()]
    expected = {Path(url).name: published.Remote(url, int(size), sha256) for url, size, sha256, *_ in rows}
    assert published.FILES[name] == expected


MNIST_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
CIFAR_MOMENTS = ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616])


@needs_data
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_what_is_checked_is_what_is_in_the_published_files(name: str) -> None:
    for file, expected in published.FILES[name].items():
        packed = (REAL_DATA / name / file).read_bytes()
        assert hashlib.sha256(packed).hexdigest() == expected.sha256
        content = hashlib.sha256(gzip.decompress(packed)).hexdigest()
        assert published.CONTENTS[name][file.removesuffix(".gz")] == content


@needs_data
@pytest.mark.parametrize(
    ("name", "first", "counts", "moments"),
    [
        ("mnist", [5, 0, 4, 1, 9, 2, 1, 3, 1, 4], MNIST_COUNTS, ([0.13066], [0.30811])),
        ("fashion_mnist", [9, 0, 0, 3, 0, 2, 7, 2, 5, 5], [6000] * 10, ([0.28604], [0.35302])),
        pytest.param("cifar10", [6, 9, 9, 4, 1, 1, 2, 7, 8, 3], [5000] * 10, CIFAR_MOMENTS, marks=pytest.mark.slow),
    ],
)
def test_published_facts(name: str, first: list, counts: list, moments: tuple) -> None:
    source = published.read_published(name, REAL_DATA, REAL_DATA, silent)
    data = assemble(name, source)
    assert sizes(data) == [sum(counts) - 5000, 5000, 10000]
    assert data.image_shape == ((32, 32, 3) if name == "cifar10" else (28, 28, 1))
    assert source.train.labels[:10].tolist() == first
    assert np.bincount(source.train.labels).tolist() == counts
    whole = Dataset(name, source.train, data.validation, data.test, data.class_names, data.fingerprint)
    np.testing.assert_allclose(whole.mean(), moments[0], atol=5.1e-5)
    np.testing.assert_allclose(whole.deviation(), moments[1], atol=5.1e-5)
    if name == "cifar10":  # whose published batches are records of a label and three planes
        for i, content in enumerate(published.CONTENTS["cifar10"].values()):
            whole_set = (np.concatenate(parts) for parts in zip(source.train, data.test, strict=True))
            images, labels = (part[10_000 * i :][:10_000] for part in whole_set)
            records = np.column_stack([labels.astype(np.uint8), images.transpose(0, 3, 1, 2).reshape(10_000, -1)])
            assert hashlib.sha256(records.tobytes()).hexdigest() == content
