"""What does not fit into the memory is refused beforehand; the sums of some classes, or without a course, take less."""

import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from experiments import noise_maps
from wna_jax import InputError, data, noise, responses, reverse_correlate
from wna_jax.correlation import reverse_correlate_in_parts
from wna_jax.runs import memory

WHITE = noise.uniform((6, 5, 3))


def logits(images: jax.Array) -> jax.Array:
    return images.reshape(len(images), -1)[:, :7]


def test_the_memory_that_is_free_is_that_of_the_machine_or_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CONTAINER", tmp_path)
    assert memory.available() == np.inf
    (tmp_path / "meminfo").write_text("MemTotal:  8000 kB\nMemAvailable:   5000 kB\n")
    assert memory.available() == 5000 * 1024
    (tmp_path / "memory.current").write_text("1000000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available() == 5000 * 1024
    (tmp_path / "memory.max").write_text("3000000\n")
    assert memory.available() == 2_000_000


@pytest.mark.parametrize(("course", "points"), [(True, 10), (False, 0)])
def test_sums_that_do_not_fit_are_refused_with_what_they_take(
    course: bool, points: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100,000 samples in batches of 100: two halves, four of work, the course after 1, 2, ..., 512 of 1,000 batches."""
    sums = 8 * (2 * (7 + 1) * 6 * 5 * 3 + 4 * 7 + 2)
    options: dict[str, Any] = {"batch_size": 100, "course": course}
    monkeypatch.setattr(memory, "available", lambda: (6 + points) * sums - 1)
    arrays = f"{6 + points} times {memory.gigabytes(sums)}"
    with pytest.raises(InputError, match=rf"7 responses to images \(6, 5, 3\), {arrays} take .* are free: keep those"):
        reverse_correlate_in_parts(WHITE, responses.of_classifier(logits, ["decision"]), 100_000, **options)
    monkeypatch.setattr(memory, "available", lambda: (6 + points) * sums)
    reverse_correlate_in_parts(WHITE, responses.of_classifier(logits, ["decision"]), 100_000, **options)


def test_a_thousand_classes_of_photographs_are_refused_before_any_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    def thousand(images: jax.Array) -> jax.Array:
        return images.reshape(len(images), -1)[:, :1000]

    monkeypatch.setattr(memory, "available", lambda: 16e9)
    respond = responses.of_classifier(thousand)
    with pytest.raises(InputError, match=r"the sums of 2,000 responses .* times 4\.8 GB take .* GB, of which 16\.0 GB"):
        reverse_correlate(noise.uniform((224, 224, 3)), respond, 1_000, sampling="independent", batch_size=10)


@pytest.mark.parametrize("kind", [responses.of_classifier, responses.of_black_box])
def test_the_sums_of_some_classes_are_those_in_a_run_of_all(kind: Any) -> None:
    """Also where another class than these has the largest logit: decisions are among all."""
    names = ("decision", "probability:4")
    of_all = reverse_correlate(WHITE, kind(logits, names), 1_000, batch_size=100)
    of_some = reverse_correlate(WHITE, kind(logits, names, classes=[6, 2]), 1_000, batch_size=100)
    for name in names:
        np.testing.assert_array_equal(of_some[name].count, of_all[name].count[[6, 2]])
        np.testing.assert_allclose(of_some[name].sum, of_all[name].sum[[6, 2]], rtol=1e-6)
        np.testing.assert_array_equal(of_some[name].total_sum, of_all[name].total_sum)


@pytest.mark.parametrize(
    ("classes", "said"),
    [([], "classes are []"), ([1, 1], "classes are [1, 1]"), ([-1], "classes are [-1]"), ([7], "class 7 of a network")],
)
def test_classes_that_there_are_not_are_refused(classes: list[int], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        reverse_correlate(WHITE, responses.of_classifier(logits, classes=classes), 100)


def test_without_a_course_the_sums_are_the_same() -> None:
    respond = responses.of_classifier(logits, ["decision"])
    usual = reverse_correlate_in_parts(WHITE, respond, 1_000, batch_size=100)
    small = reverse_correlate_in_parts(WHITE, respond, 1_000, batch_size=100, course=False)
    assert (len(usual.course), len(small.course)) == (4, 0)
    jax.tree.map(np.testing.assert_array_equal, usual[:2], small[:2])


@pytest.mark.slow
def test_maps_of_some_classes_are_those_of_a_run_of_all(
    network_settings: dict[str, Any], tmp_path: Path, digits: data.Dataset
) -> None:
    short: dict[str, Any] = {"num_samples": 1_000, "batch_size": 256, "permutations": 19, "gradient_samples": 0}
    settings = noise_maps.Settings(**network_settings, **short, out_dir=str(tmp_path / "all"))
    some = noise_maps.Settings(**network_settings, **short, classes=("8", "3"), out_dir=str(tmp_path / "some"))
    whole, part = noise_maps.run(settings), noise_maps.run(some)
    assert part.metrics["classes"] == ["8", "3"]
    assert part.metrics["counts"] == [whole.metrics["counts"][k] for k in (8, 3)]
    for i, k in enumerate((8, 3)):
        ours, theirs = (of.metrics["feedback"]["probability"][n] for of, n in ((part, i), (whole, k)))
        assert ours | {"confidence": 0} == theirs | {"confidence": 0}
        ours, theirs = (of.arrays["maps.npz"][f"probability_map_{n}"] for of, n in ((part, i), (whole, k)))
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert len(list(part.draw())) == 6
    with pytest.raises(InputError, match="class 'x'"):
        noise_maps.run(noise_maps.Settings(**network_settings, **short, classes=("x",), out_dir=str(tmp_path)))


@pytest.mark.slow
def test_without_convergence_everything_else_is_there(network_settings: dict[str, Any], tmp_path: Path) -> None:
    short: dict[str, Any] = {"num_samples": 1_000, "permutations": 19, "convergence": False, "response": ("decision",)}
    settings = noise_maps.Settings(**network_settings, **short, out_dir=str(tmp_path))
    names = [name for name, _ in noise_maps.run(settings).draw()]
    assert len(names) == 5
    assert "convergence.png" not in names


@pytest.mark.parametrize("kind", [responses.of_classifier, responses.of_black_box])
def test_moments_of_other_classes_do_not_add_up(kind: Any) -> None:
    first, second = (
        reverse_correlate(WHITE, kind(logits, ["decision"], classes=some), 200, seed=seed, batch_size=100)["decision"]
        for seed, some in enumerate(([6, 2], [1, 2]))
    )
    with pytest.raises(InputError):
        first + second
