"""Runs that are stopped go on, and end with the arrays of a run that was not."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wna_jax import InputError, Moments, noise, responses, reverse_correlate
from wna_jax.networks import models
from wna_jax.runs import files
from wna_jax.runs.fingerprints import fingerprint
from wna_jax.runs.progress import Progress
from wna_jax.runs.store import State, Store

# Orbax's readers of damaged files are cut short, and Python says so when it finds them: within the same test, here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collect_garbage"),
]


WHITE = noise.uniform((6, 6, 1))


def respond(images: jax.Array) -> jax.Array:
    return jnp.tanh(images.reshape(len(images), -1)[:, :3])


def same(a: Moments, b: Moments) -> None:
    for field in fields(Moments):
        np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name))


def run(num_samples: int, state_dir: Path | None = None, **options: Any) -> Moments:
    return reverse_correlate(WHITE, respond, num_samples, **{"batch_size": 100, "state_dir": state_dir} | options)


class StoppedError(Exception):
    """Thrown into a run from its progress report, as a signal would be."""


def stop_after(samples: int) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        if progress.done >= samples:
            raise StoppedError

    return report


def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wna_jax.correlation.loop._SECONDS_BETWEEN_REPORTS", 0)
    expected = run(2050)
    with pytest.raises(StoppedError):
        run(2050, tmp_path / "state", report=stop_after(700))
    reports: list[Progress] = []
    same(run(2050, tmp_path / "state", report=reports.append), expected)
    assert reports[0].done == 700  # nothing that was done is done again


def test_a_finished_run_is_extended_to_the_same_bits(tmp_path: Path) -> None:
    run(730, tmp_path / "state")
    reports: list[Progress] = []
    same(run(2050, tmp_path / "state", report=reports.append), run(2050))
    assert reports[0].done == 700
    reports.clear()
    same(run(2050, tmp_path / "state", report=reports.append), run(2050))
    assert reports[0].done == 2000


def test_another_job_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    run(1000, state, identity={"network": "a"})
    for options, said in [
        ({"identity": {"network": "b"}}, r"holds a run with network 'a' \(now 'b'\): give another output directory"),
        ({"identity": {"network": "a"}, "seed": 1}, r"seed 0 \(now 1\)"),
        ({}, r"network 'a' \(now None\)"),
        ({"identity": {"network": "a"}, "batch_size": 50}, r"batch 100 \(now 50\)"),
    ]:
        with pytest.raises(InputError, match=said):
            run(1000, state, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="holds 1,000 samples, num_samples is 500: ask for at least as many"):
        run(500, state, identity={"network": "a"})


def logits(images: jax.Array) -> jax.Array:
    return images.reshape(len(images), -1)[:, :3]


def brighter(factor: float) -> Callable[[jax.Array], jax.Array]:
    return lambda images: factor * logits(images)


def in_a_notebook(cell: str, scale: float) -> Callable[[jax.Array], jax.Array]:
    names: dict[str, Any] = {"scale": np.array([[scale]], np.float32)}
    exec(compile(cell, "<cell>", "exec"), names)
    return names["answer"]


def test_whatever_decides_the_sums_is_part_of_the_job(tmp_path: Path) -> None:
    """Responses and noises of one width and one name: what they are made of tells them apart."""
    jobs: dict[str, Callable[[], tuple[Any, Any]]] = {
        "probability": lambda: (WHITE, responses.of_classifier(logits, ("probability",))),
        "confidence": lambda: (WHITE, responses.of_classifier(logits, ("confidence",))),
        "sharpness": lambda: (WHITE, responses.of_classifier(logits, ("probability:8",))),
        "closure": lambda: (WHITE, brighter(2.0)),
        "another closure": lambda: (WHITE, brighter(3.0)),
        "noise": lambda: (noise.gaussian((6, 6, 1), 0.5, 0.1), logits),
        "wider noise": lambda: (noise.gaussian((6, 6, 1), 0.5, 0.6), logits),
        "global": lambda: (WHITE, in_a_notebook("def answer(x): return x.reshape(len(x), -1)[:, :3] * scale", 1.0)),
        "another global": lambda: (
            WHITE,
            in_a_notebook("def answer(x): return x.reshape(len(x), -1)[:, :3] * scale", 2.0),
        ),
        "function inside": lambda: (
            WHITE,
            in_a_notebook("def answer(x): return (lambda y: y - 1)(x)[:, 0, :3, 0]", 1.0),
        ),
        "another inside": lambda: (
            WHITE,
            in_a_notebook("def answer(x): return (lambda y: y - 2)(x)[:, 0, :3, 0]", 1.0),
        ),
        "renamed noise": lambda: (replace(noise.gaussian((6, 6, 1), 0.5, 0.6), name="a"), logits),
    }
    known = {name: fingerprint(job()) for name, job in jobs.items()}
    assert len(set(known.values())) == len(jobs)
    assert {name: fingerprint(job()) for name, job in jobs.items()} == known  # made anew, it is the same
    for first, second in (
        ("probability", "confidence"),
        ("closure", "another closure"),
        ("noise", "wider noise"),
        ("global", "another global"),
    ):
        reverse_correlate(*jobs[first](), 300, batch_size=100, state_dir=tmp_path / first)
        reverse_correlate(*jobs[first](), 300, batch_size=100, state_dir=tmp_path / first)
        with pytest.raises(InputError, match="holds a run with"):
            reverse_correlate(*jobs[second](), 300, batch_size=100, state_dir=tmp_path / first)


def test_a_network_trained_further_is_another_job(tmp_path: Path) -> None:
    network = models.untrained("logistic", (6, 6, 1), 3)
    changed = replace(network, parameters=jax.tree.map(lambda leaf: leaf + 1e-6, network.parameters))
    for each in (network, network):
        reverse_correlate(WHITE, responses.of_classifier(each), 300, batch_size=100, state_dir=tmp_path / "state")
    with pytest.raises(InputError, match="response_fingerprint"):
        reverse_correlate(WHITE, responses.of_classifier(changed), 300, batch_size=100, state_dir=tmp_path / "state")


def test_nan_stops_a_run_and_what_was_done_before_is_kept(tmp_path: Path) -> None:
    def breaks(images: jax.Array) -> jax.Array:
        return jnp.where(images.max() > 0.9999, jnp.nan, respond(images))

    with pytest.raises(InputError, match="NaN"):
        reverse_correlate(WHITE, breaks, 50_000, batch_size=100, state_dir=tmp_path / "state")
    with Store(tmp_path / "state", {}) as store, pytest.raises(InputError, match="holds a run with"):
        store.load(lambda _: None)


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    run(1000, tmp_path / "state")
    for file in (tmp_path / "state").rglob("manifest.ocdbt"):
        file.write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"state is damaged \(.*\): delete that directory to start anew"):
        run(1000, tmp_path / "state")


def flipped_bits(tmp_path: Path, count: int) -> None:
    """Of each flipped bit of a state either nothing is to be seen, or the state is refused in one line."""
    expected = run(1000, tmp_path / "whole")
    rng, refused = random.Random(0), 0
    for i in range(count):
        copy = tmp_path / f"{i}"
        shutil.copytree(tmp_path / "whole", copy)
        file = rng.choice(sorted(file for file in copy.rglob("*") if file.is_file() and file.stat().st_size))
        content = bytearray(file.read_bytes())
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        file.write_bytes(content)
        try:
            same(run(1000, copy), expected)
        except InputError:
            refused += 1
        shutil.rmtree(copy)
    assert refused  # not all files are copies of others


def test_flipped_bits_are_refused_or_harmless(tmp_path: Path) -> None:
    flipped_bits(tmp_path, 8)


@pytest.mark.slow
def test_two_hundred_flipped_bits_are_refused_or_harmless(tmp_path: Path) -> None:
    flipped_bits(tmp_path, 200)


def test_a_full_disk_is_one_line_and_the_state_before_it_is_kept(
    tmp_path: Path, disk_of: Callable, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    run(730, state)
    with disk_of(100), pytest.raises(OSError, match="File too large") as full:
        run(2050, state)
    assert full.value.filename == str(state)
    assert capfd.readouterr().err == ""
    reports: list[Progress] = []
    same(run(2050, state, report=reports.append), run(2050))
    assert reports[0].done == 700


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_a_signal_waits_for_the_end_of_a_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    with Store(tmp_path / "state", {}) as store:
        save = store._checkpointer.save

        def interrupted(*arguments: Any, **options: Any) -> None:
            signal.raise_signal(signal.SIGINT)
            save(*arguments, **options)
            order.append("saved")

        monkeypatch.setattr(store._checkpointer, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.save(State(3, [np.zeros(2)]))
    assert order == ["saved"]
    with Store(tmp_path / "state", {}) as store:
        state = store.load(lambda _: [0])
        assert state is not None
        assert state.step == 3


def test_a_second_job_in_the_directory_is_refused_at_once(tmp_path: Path) -> None:
    with (
        Store(tmp_path / "state", {}),
        pytest.raises(InputError, match=r"another job is writing to .*: wait for it, or"),
    ):
        run(1000, tmp_path / "state")
    run(1000, tmp_path / "state")  # the lock went with the first job


def test_a_lock_whose_last_owner_has_just_deleted_it_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, take = tmp_path / "lock", files._take
    taken: list[Any] = []

    def take_what_is_deleted(lock: Any) -> bool:
        if not taken:
            path.unlink()
        taken.append(lock)
        return take(lock)

    monkeypatch.setattr(files, "_take", take_what_is_deleted)
    with files.locked(path) as first, files.locked(path) as second:
        assert (first, second) == (True, False)
        assert path.exists()
    assert not path.exists()


@pytest.mark.parametrize("character", "[]*?\\")
def test_a_directory_that_orbax_would_not_find_again_is_refused_before_any_work(tmp_path: Path, character: str) -> None:
    with pytest.raises(InputError, match=r"in its path: give another output directory"):
        run(1000, tmp_path / f"a{character}b" / "state")


def test_a_state_of_an_earlier_version_is_refused_with_the_way_out(tmp_path: Path) -> None:
    from orbax.checkpoint import v1 as ocp

    with ocp.training.Checkpointer(tmp_path / "state") as old:  # as wna_jax 0.1 wrote it
        old.save(7, {"sums_and_course": [[np.zeros(2)]]}, custom_metadata={"identity": {"format": 2}})
    with pytest.raises(InputError, match=r"holds a run of wna_jax 0\.1, .*: delete that directory .*or finish the run"):
        run(1000, tmp_path / "state")


def test_a_state_with_other_sums_of_fields_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_field() -> None:
        white, kernel = noise.uniform((3, 3, 1)), jnp.arange(9.0).reshape(3, 3, 1, 1)

        def slide(images: jax.Array) -> jax.Array:
            layout = ("NHWC", "HWIO", "NHWC")
            out = jax.lax.conv_general_dilated(images, kernel, (1, 1), "VALID", dimension_numbers=layout)
            return out[:, 0, 0] if out.shape[1:3] == (1, 1) else out

        reverse_correlate(white, slide, 3000, sampling="field", state_dir=tmp_path / "state")

    monkeypatch.setattr("wna_jax.correlation.loop._FIELD_SUMS", 1)
    of_field()
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"field_sums_version 1 \(now 2\): give another output directory"):
        of_field()


def test_big_counts_and_sums_stay_exact(tmp_path: Path) -> None:
    """Past 2^31 counts and 2^53 / 10^9 sums: the accumulator and its state on disk are int64 and float64."""
    counts, sums = np.array([2**31 + 1, 2**53 + 1]), np.array([1e9 + 2**-20, 5e8])
    with Store(tmp_path / "state", {"a": 1}) as store:
        store.save(State(2**40, {"counts": counts, "sums": [sums, sums]}, {"note": ["any", 1.5]}))
    with Store(tmp_path / "state", {"a": 1}) as store:
        state = store.load(lambda _: {"counts": 0, "sums": [0, 0]})
    assert state is not None
    assert state.step == 2**40
    assert state.record == {"note": ["any", 1.5]}
    np.testing.assert_array_equal(state.tree["counts"], counts)
    np.testing.assert_array_equal(state.tree["sums"][1], sums)
    big = Moments(*([2**31] * 2), *(np.full(2, 0.5) for _ in range(2)), counts, *(np.full(2, 1e9) for _ in range(5)))  # type: ignore[arg-type,call-arg]
    assert (big + big).count.tolist() == [2**32 + 2, 2**54 + 2]


KILLS = int(os.environ.get("WNA_JAX_TEST_KILLS", "2"))
JOB = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
from wna_jax import noise, reverse_correlate
from wna_jax.runs import store as jobs
jobs._SECONDS_BETWEEN_SAVES = 0.0
white = noise.uniform((6, 6, 1))
respond = lambda x: jnp.tanh(x.reshape(len(x), -1)[:, :3])
print("ready", flush=True)
m = reverse_correlate(white, respond, 40_050, batch_size=100, state_dir=Path(sys.argv[1]))
np.savez(sys.argv[2], count=m.count, sum=m.sum, square_sum=m.square_sum, total=m.total_sum, w=m.weight_sum)
"""


@pytest.mark.slow
def test_kill_9_at_random_moments_does_not_change_a_bit(tmp_path: Path) -> None:
    command = [sys.executable, "-c", JOB, str(tmp_path / "state"), str(tmp_path / "end.npz")]
    rng, kills = random.Random(0), 0
    while True:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            if kills < KILLS:
                time.sleep(rng.uniform(0.5, 3.0))
                process.send_signal(signal.SIGKILL)
                kills += 1
        if process.returncode == 0:
            break
    end, expected = np.load(tmp_path / "end.npz"), run(40_050)
    for name, value in [("count", expected.count), ("sum", expected.sum), ("square_sum", expected.square_sum)]:
        np.testing.assert_array_equal(end[name], value)
