"""MNIST, Fashion-MNIST and CIFAR-10 from their published files: find or download them, check and parse them."""

import hashlib
import http.client
import tarfile
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wna_jax.data.arrays import parse_idx, unzipped
from wna_jax.data.dataset import Source, Split, reason
from wna_jax.data.prepared import find_prepared, read_prepared
from wna_jax.runs.errors import InputError
from wna_jax.runs.files import cache_directory, replacing
from wna_jax.runs.progress import Progress, Report

CLASS_NAMES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}
_CIFAR_ARCHIVE = "cifar-10-binary.tar.gz"
_CIFAR_FOLDER = "cifar-10-batches-bin"
_CIFAR_BATCHES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
_CIFAR_RECORD = 1 + 3 * 32 * 32  # bytes: the label, then a red, a green and a blue plane
_TORCHVISION = {"mnist": "MNIST/raw", "fashion_mnist": "FashionMNIST/raw"}
_REPLACE = "replace it by the published file (if it is in the cache, delete it and it is downloaded again)"
_OWN = "for data of your own give arrays:FOLDER"
_TIMEOUT = 30  # seconds without data


class Remote(NamedTuple):
    """Where a published file can be downloaded, its size in bytes, and its SHA-256 in hex."""

    url: str
    size: int
    sha256: str


def _files(folder: str, *files: tuple[str, int, str]) -> dict[str, Remote]:
    return {name: Remote(folder + name, size, sha256) for name, size, sha256 in files}


FILES = {
    "mnist": _files(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ("train-images-idx3-ubyte.gz", 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        ("train-labels-idx1-ubyte.gz", 28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        ("t10k-images-idx3-ubyte.gz", 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        ("t10k-labels-idx1-ubyte.gz", 4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
    "fashion_mnist": _files(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ("train-images-idx3-ubyte.gz", 26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        ("train-labels-idx1-ubyte.gz", 29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        ("t10k-images-idx3-ubyte.gz", 4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        ("t10k-labels-idx1-ubyte.gz", 5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    ),
    "cifar10": _files(
        "https://www.cs.toronto.edu/~kriz/",
        (_CIFAR_ARCHIVE, 170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
    ),
}
"""The published files of each data set by name, in the order in which they are parsed."""

CONTENTS = {
    "mnist": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    "cifar10": {
        "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    },
}
"""SHA-256 of what is in the published files, by which the files are checked in whatever form they are found.

Computed from files with the checksums above (MNIST, Fashion-MNIST), and from batches with the SHA-1 that Apache MXNet
lists (CIFAR-10).
"""


def read_published(name: str, given: Path, home: Path, report: Report) -> Source:
    """Reads a data set of `CLASS_NAMES` from the first place that has all of it, or downloads it.

    The places are `given` (published files, then a directory prepared by TFDS), `home` (prepared only) and the cache.
    Raises InputError: the files in `given` are incomplete, a file is damaged or not as published, or a download fails.
    """
    found, missing = _find(name, given)
    if not missing:
        return _parse(name, found)
    directory = find_prepared(name, given)
    if not found and not directory and (given / next(iter(FILES[name]))).is_file():
        raise InputError(f"{name}: {given} holds the files themselves; give the folder above, data_dir={given.parent}")
    if found and not directory:
        raise InputError(f"{name}: {given / name} lacks {', '.join(missing)}; add them, or give another data_dir")
    if directory := directory or find_prepared(name, home, skip_other_formats=True):
        return read_prepared(directory)._replace(class_names=CLASS_NAMES[name])
    cache = cache_directory()
    if _find(name, cache)[1]:
        _fetch(name, cache / name, f"{given / name}, {home / name} and {cache / name}", report)
    return _parse(name, _find(name, cache)[0])


def _find(name: str, root: Path) -> tuple[list[Path], list[str]]:
    """The published files in root / name, in the order of parsing, and the names of the missing ones."""
    folder = root / name
    if name != "cifar10":
        places = (folder, root / _TORCHVISION[name])
        forms = [(file, file.removesuffix(".gz")) for file in FILES[name]]
        choices = [tuple(place / form for place in places for form in both) for both in forms]
    elif (folder / _CIFAR_FOLDER).is_dir() and not (folder / _CIFAR_ARCHIVE).is_file():
        choices = [(folder / _CIFAR_FOLDER / batch,) * 2 for batch in _CIFAR_BATCHES]
    else:
        choices = [(folder / _CIFAR_ARCHIVE,) * 2]
    found = [next(filter(Path.is_file, paths), None) for paths in choices]
    missing = [paths[0].name for paths, path in zip(choices, found, strict=True) if path is None]
    return [path for path in found if path is not None], missing


def _parse(name: str, paths: list[Path]) -> Source:
    if name == "cifar10":
        *batches, test = _cifar_batches(paths)
        train = Split(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))
    else:
        train_images, train_labels, test_images, test_labels = (_read_idx(name, path) for path in paths)
        train = Split(train_images[..., None], train_labels.astype(np.int32))
        test = Split(test_images[..., None], test_labels.astype(np.int32))
    return Source(train, test, CLASS_NAMES[name])


def _read_idx(name: str, path: Path) -> np.ndarray:
    content = unzipped(path, _REPLACE)
    array = parse_idx(path, content, _REPLACE)
    _check_sha256(name, path, content)
    return array


def _cifar_batches(paths: list[Path]) -> Iterator[Split]:
    """The six batches, the test batch last, from the archive or from its extracted files."""
    batches = _untar(paths[0]) if paths[0].name == _CIFAR_ARCHIVE else {path: path.read_bytes() for path in paths}
    for path, content in batches.items():
        if not content or len(content) % _CIFAR_RECORD:
            raise InputError(f"{path}: {len(content):,} bytes, expected records of {_CIFAR_RECORD:,}; {_REPLACE}")
        _check_sha256("cifar10", path, content)
        records = np.frombuffer(content, np.uint8).reshape(-1, _CIFAR_RECORD)
        images_nchw = records[:, 1:].reshape(-1, 3, 32, 32)
        yield Split(np.ascontiguousarray(images_nchw.transpose(0, 2, 3, 1)), records[:, 0].astype(np.int32))


def _untar(archive: Path) -> dict[Path, bytes]:
    contents = {}
    try:
        with tarfile.open(archive, mode="r:gz") as tar:
            for member in tar:
                name = Path(member.name).name
                if name in _CIFAR_BATCHES and member.isfile() and (file := tar.extractfile(member)):
                    contents[name] = file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise InputError(f"{archive}: truncated or not a tar.gz file ({reason(error)}); {_REPLACE}") from error
    if absent := [batch for batch in _CIFAR_BATCHES if batch not in contents]:
        raise InputError(f"{archive}: lacks {', '.join(absent)}; {_REPLACE}")
    return {archive / batch: contents[batch] for batch in _CIFAR_BATCHES}


def _check_sha256(name: str, path: Path, content: bytes) -> None:
    # After parsing, because "truncated" says more than "checksum mismatch".
    expected, got = CONTENTS[name][path.name.removesuffix(".gz")], hashlib.sha256(content).hexdigest()
    if got != expected:
        problem = f"checksum mismatch, sha256 of its content is {got}, expected {expected}"
        raise InputError(f"{path}: {problem}; {_REPLACE}; {_OWN}")


def _fetch(name: str, folder: Path, looked: str, report: Report) -> None:
    """Downloads the published files that are missing in `folder`."""
    for file, remote in FILES[name].items():
        if (folder / file).is_file() or (folder / file.removesuffix(".gz")).is_file():
            continue
        try:
            _download(remote, folder / file, report)
        except (OSError, http.client.HTTPException) as error:
            raise InputError(
                f"{name}: {', '.join(FILES[name])} not found in {looked}, and {remote.url} could not be downloaded "
                f"({reason(error)}); put the files there, or say where they are (--data_dir=DIR, or data_dir= in "
                f"Python, with the files in DIR/{name}), or use the data set digits, which needs no files"
            ) from None


def _download(remote: Remote, target: Path, report: Report) -> None:
    """Downloads a file, which becomes `target` once its size and SHA-256 are verified."""
    digest = hashlib.sha256()
    with urllib.request.urlopen(remote.url, timeout=_TIMEOUT) as response:
        target.parent.mkdir(parents=True, exist_ok=True)  # not before there is an answer: no empty folder is left
        with replacing(target) as partial, partial.open("wb") as file:
            while chunk := response.read(1 << 20):
                file.write(chunk)
                digest.update(chunk)
                report(Progress(target.name, file.tell(), remote.size, "bytes"))
            size, sha256 = file.tell(), digest.hexdigest()
            if (size, sha256) != (remote.size, remote.sha256):
                raise InputError(
                    f"{remote.url}: downloaded {size:,} bytes with sha256 {sha256}, expected {remote.size:,} bytes "
                    f"with {remote.sha256}; nothing was kept, try again or put the original at {target}"
                )
