"""What all experiments share: settings that are flags, help, errors in one line, files from results."""

import importlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from absl import flags
from matplotlib.figure import Figure
from PIL import Image

from experiments import compare, launch, noise_maps, noise_robustness
from experiments.__main__ import listing, mistaken
from experiments.launch import Result
from experiments.settings import DataSettings, LoopSettings, Settings, rules_of, setting
from wna_jax import data
from wna_jax.runs import files
from wna_jax.runs.errors import InputError
from wna_jax.runs.progress import Progress

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted(listing())


@pytest.fixture(autouse=True)
def own_flags(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Flags are global in absl: every test has its own."""
    before = set(flags.FLAGS)
    yield
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def settings_type(name: str) -> type[Settings]:
    return importlib.import_module(f"experiments.{name}").Settings


def parsed(settings: type[Settings], *arguments: str) -> Any:
    launch.parse(settings, ["experiment", *arguments])
    return launch.settings_of(settings, "experiment")


class Toy(Settings):
    """Settings of every type."""

    sizes: tuple[float, ...] = setting((0.0, 0.5), "Sizes.", at_least=0, at_most=1, names_folder=True)
    units: tuple[int, ...] | None = setting(None, "Units.", at_least=0)
    kinds: tuple[str, ...] = setting(("a", "b"), "Kinds.", choices=("a", "b", "abc"), kind="kind")
    count: int | None = setting(None, "How many.", at_least=1)
    share: float = setting(0.25, "A share.", at_least=0, at_most=1)
    fast: bool = setting(False, "Fast.")
    dataset: str = setting("digits", "Data.")


def test_there_are_all_experiments_and_each_says_in_a_line_what_it_asks() -> None:
    assert len(EXPERIMENTS) == 30
    for line in listing().values():
        assert len(line) > 20
    listed = subprocess.run([sys.executable, "-m", "experiments"], capture_output=True, text=True, cwd=ROOT, check=True)
    for name, line in listing().items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", listed.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["noise_maps", "--dataset=mnist"], "say python -m experiments.noise_maps --dataset=mnist"),
        (["--seed=1", "experiments/noise_maps.py"], "say python -m experiments.noise_maps --seed=1"),
        (["noise_map"], "noise_map is no experiment: python -m experiments lists them"),
        (["--seed=1"], "--seed=1 is no experiment: python -m experiments lists them"),
    ],
)
def test_a_space_in_the_place_of_the_dot_is_told(arguments: list[str], said: str) -> None:
    assert mistaken(arguments).startswith(said)
    if arguments == ["--seed=1"]:
        command = [sys.executable, "-m", "experiments", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"error: {mistaken(arguments)}\n")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_help_of_an_experiment_names_every_flag_with_its_default(name: str) -> None:
    settings = settings_type(name)
    text = launch.help_text(settings, importlib.import_module(f"experiments.{name}").__doc__ or "")
    for each in fields(settings):
        assert f"  --{each.name}" in text
        assert rules_of(each).help.endswith((".", ")")), each.name  # whole sentences
    assert settings() == parsed(settings).__class__(), name


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_defaults_of_the_flags_are_those_of_the_settings(name: str) -> None:
    settings = settings_type(name)
    assert replace(parsed(settings), out_dir=None) == settings()


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if issubclass(settings_type(name), DataSettings)])
def test_every_experiment_reads_images_of_the_size_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, data_dir: str | None, report: Any, image_size: int | None = None) -> None:
        raise InterruptedError(f"{name} at {image_size}")

    monkeypatch.setattr(data, "load", load)
    module = importlib.import_module(f"experiments.{name}")
    with pytest.raises(InterruptedError, match="digits at 14"):
        module.run(module.Settings(dataset="digits", image_size=14))


def test_flags_become_settings_of_their_types() -> None:
    arguments = ["--sizes=0.1,1", "--units=3,0", "--kinds=b", "--count=7", "--share=1", "--fast", "--out_dir=x"]
    expected = Toy(sizes=(0.1, 1.0), units=(3, 0), kinds=("b",), count=7, share=1.0, fast=True, out_dir="x")
    assert parsed(Toy, *arguments) == expected


def test_the_output_folder_is_named_by_what_makes_another_experiment() -> None:
    assert parsed(Toy).out_dir == "runs/experiment/digits"
    assert Toy(sizes=(0.5,), count=3).placed("toy", ["sizes", "count"]).out_dir == "runs/toy/digits-sizes_0.5"
    assert LoopSettings().placed("toy").out_dir == "runs/toy/digits-paper_cnn-matched-train0-seed0"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sizes=0.1,x"], "sizes is '0.1,x': expected numbers separated by commas, such as 0.0,0.5"),
        (["--sizes=0.1,2"], "sizes is 0.1,2.0: expected numbers from 0 to 1"),
        (["--sizes=nan"], "sizes is nan: expected numbers from 0 to 1"),
        (["--sizes="], "sizes is empty: give at least one"),
        (["--units=1.5"], "units is '1.5': expected whole numbers separated by commas"),
        (["--units=-1"], "units is -1: expected numbers of at least 0"),
        (["--kinds=ab"], "unknown kind 'ab' (did you mean 'abc'?): choose one of a, b, abc"),
        (["--kinds="], "kinds is empty: choose from a, b, abc"),
        (["--count=0"], "count is 0: expected a number of at least 1"),
        (["--share=-0.5"], "share is -0.5: expected a number from 0 to 1"),
        (["--share=nan"], "share is nan: expected a number from 0 to 1"),
    ],
)
def test_wrong_settings_are_named(arguments: list[str], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        parsed(Toy, *arguments)


def test_settings_made_in_python_are_checked_too() -> None:
    with pytest.raises(InputError, match="share is 2: expected a number from 0 to 1"):
        Toy(share=2)
    with pytest.raises(InputError, match=r"seed is -1: expected a number from 0 to 4,294,967,295"):
        LoopSettings(seed=-1)
    with pytest.raises(InputError, match=r"unknown sampling 'fields' \(did you mean 'field'\?\)"):
        noise_maps.Settings(sampling="fields")


@pytest.mark.parametrize(
    ("settings", "argument", "said"),
    [
        (
            noise_robustness.Settings,
            "--model=noise_cnn",
            "--model is no flag of this experiment (did you mean --models?)",
        ),
        (
            noise_maps.Settings,
            "--num_sample=5",
            "--num_sample is no flag of this experiment (did you mean --num_samples?)",
        ),
        (noise_maps.Settings, "--num_samples=many", "flag --num_samples=many: write a whole number as 10000"),
        (noise_maps.Settings, "--num_processes=0", "flag --num_processes=0"),
    ],
)
def test_wrong_flags_end_with_a_line(
    settings: type[Settings], argument: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        launch.parse(settings, ["experiment", argument])
    assert stop.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert said in line
    assert line.endswith("see --help for the flags of this experiment\n")


def test_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        launch.parse(Toy, ["experiment", "--help"])
    assert stop.value.code == 0
    assert "--sizes" in capsys.readouterr().out


def main(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str, run: Any = noise_maps.run) -> Any:
    """What a command ends with; the process itself is left as it is."""
    short = ["--model=logistic", "--num_samples=100", f"--out_dir={tmp_path / 'out'}", f"--checkpoint_dir={tmp_path}"]
    return started(monkeypatch, ["noise_maps", *short, *arguments], run, noise_maps.Settings)


def started(monkeypatch: pytest.MonkeyPatch, argv: list[str], run: Any, settings: Any, positional: Any = ()) -> Any:
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    for change in ("keep_freed_memory", "keep_compiled_programs"):
        monkeypatch.setattr(f"wna_jax.runs.processes.{change}", lambda: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("wna_jax.runs.processes.leave", sys.exit)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", f"{argv[0]}.py", raising=False)
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as stop:
        launch.main(run, settings, positional)
    return stop.value.code or 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dataset=mnits"], "unknown data set 'mnits' (did you mean mnist?)"),
        (["--num_samples=0"], "num_samples is 0: expected a number of at least 1"),
        (["--batch_size=-5"], "batch_size is -5: expected a number of at least 1"),
        (["extra"], "unexpected argument 'extra'"),
        (["--response="], "response is empty: give at least one"),
        (["--classes=3,8,3"], "classes is 3,8,3: name each class once"),
        (["--model=resnet"], "unknown model 'resnet'"),
        (["--noise=pink"], "unknown noise 'pink'"),
        (["--response=decision,loudness"], "unknown response 'loudness'"),
        (["--epochs=0"], "epochs is 0"),
        (["--out_dir=FILE/below"], "cannot be written"),
        (["--checkpoint_dir=FILE/below"], "cannot be written"),
        (["--num_processes=2"], "give --coordinator too"),
        (["--coordinator=localhost:1", "--num_processes=2", "--process_id=2"], "a process_id from 0 to num_processes"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    arguments = [argument.replace("FILE", str(tmp_path / "file")) for argument in arguments]
    assert main(monkeypatch, tmp_path, *arguments) == 2
    (last,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert said in last
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted: the same command goes on with what is done"),
        (KeyboardInterrupt(signal.SIGTERM), 143, "interrupted: the same command goes on with what is done"),
        (OSError(28, "No space left on device", "maps.npz"), 1, "maps.npz cannot be read or written (No space left"),
    ],
)
def test_what_the_world_does_to_a_run_is_one_line(
    error: BaseException,
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(settings: Settings, report: Any) -> Result:
        raise error

    assert main(monkeypatch, tmp_path, run=run) == status
    assert f"error: {said}" in capsys.readouterr().err


def test_a_command_in_a_process_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments.noise_maps", "--dataset=mnits", f"--out_dir={tmp_path}"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.returncode == 2
    assert ended.stderr.strip().splitlines()[-1].startswith("error: unknown data set 'mnits'")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(("text", "number"), [("1e3", 1000), ("1_000", 1000), ("12", 12)])
def test_whole_numbers_may_be_written_as_people_write_them(text: str, number: int) -> None:
    assert parsed(Toy, f"--count={text}").count == number


@pytest.mark.parametrize("text", ["1.5", "1e-3", "many", "10,000"])
def test_numbers_that_are_not_whole_are_refused(text: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        parsed(Toy, f"--count={text}")
    said = capsys.readouterr().err
    assert f"--count={text}: write a whole number as 10000, 10_000 or 1e4" in said
    assert len(said.splitlines()) == 1


def test_folders_may_be_at_home_and_are_never_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    launch.execute(lambda settings, report: Result({}), Toy(out_dir="~/here"))
    assert (tmp_path / "here" / "metrics.json").exists()
    with pytest.raises(InputError, match="is an address, not a folder of this machine: give another --out_dir"):
        launch.execute(lambda settings, report: Result({}), Toy(out_dir="gs://bucket/here"))


def in_an_environment(command: list[str], **variables: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if name != "HOME" or "HOME" not in variables}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, check=False, env=kept | variables, timeout=300
    )


def test_a_platform_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments.noise_maps", f"--out_dir={tmp_path}"]
    ended = in_an_environment(command, JAX_PLATFORMS="rocm")
    assert ended.returncode == 2
    assert ended.stderr.strip().splitlines()[-1].startswith("error: JAX finds no device")
    assert "Traceback" not in ended.stderr


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_a_signal_waits_for_the_figure_that_is_drawn(tmp_path: Path) -> None:
    def draw() -> Any:
        signal.raise_signal(signal.SIGINT)
        yield "first.png", Figure()
        yield "second.png", Figure()

    with pytest.raises(KeyboardInterrupt):
        Result({}, draw=draw).write(tmp_path, Toy())
    assert [path.name for path in tmp_path.glob("*.png")] == ["first.png"]


def test_a_signal_in_a_destructor_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trap:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    def drop_and_go_on() -> None:
        Trap()
        time.sleep(2)

    monkeypatch.setattr(sys, "unraisablehook", launch._interrupt_again)
    before = signal.signal(signal.SIGTERM, launch._interrupt)
    try:
        with pytest.raises(KeyboardInterrupt, match="15"):
            drop_and_go_on()
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
def test_sigterm_at_random_moments_ends_with_a_line_and_status_143_and_loses_nothing(tmp_path: Path) -> None:
    """In training, noise, saves (every .1 s) and figures; the command then ends as if it had never been stopped."""
    boot = "import runpy, sys; from wna_jax.runs import store; store._SECONDS_BETWEEN_SAVES = 0.1; "
    boot += "runpy.run_module('experiments.noise_maps', run_name='__main__', alter_sys=True)"
    short = ["--model=logistic", "--epochs=9", "--num_samples=100_000", "--permutations=19", "--sampling=independent"]
    command = [sys.executable, "-c", boot, *short, f"--checkpoint_dir={tmp_path}"]
    rng, log = random.Random(0), tmp_path / "stopped" / "log.jsonl"
    for _ in range(6):
        with subprocess.Popen(
            [*command, f"--out_dir={log.parent}"], stderr=subprocess.PIPE, text=True, cwd=ROOT
        ) as job:
            size = log.stat().st_size if log.exists() else 0
            while job.poll() is None and not (log.exists() and log.stat().st_size > size):
                time.sleep(0.05)
            time.sleep(rng.uniform(0, 5))
            job.send_signal(signal.SIGTERM)
            assert job.stderr is not None
            last = job.stderr.read().splitlines()[-1]
        assert (job.returncode, "error: interrupted" in last) in ((143, True), (0, False)), last
        assert not list(log.parent.glob(".*"))
    for folder in ("stopped", "whole"):
        subprocess.run([*command, f"--out_dir={tmp_path / folder}"], check=True, capture_output=True, cwd=ROOT)
    ours, whole = (np.load(tmp_path / folder / "maps.npz") for folder in ("stopped", "whole"))
    assert sorted(ours) == sorted(whole)
    for name in whole:
        np.testing.assert_array_equal(ours[name], whole[name])


@pytest.mark.slow
def test_a_signal_after_the_last_line_changes_nothing(tmp_path: Path) -> None:
    program = """
        import atexit, os, signal
        from experiments import launch, settings
        atexit.register(lambda: print(signal.getsignal(signal.SIGTERM).name))
        launch.main(lambda settings, report: launch.Result({}, ["the last line"]), settings.Settings)
    """
    (tmp_path / "tool.py").write_text(textwrap.dedent(program))
    command = [sys.executable, str(tmp_path / "tool.py"), f"--out_dir={tmp_path / 'out'}"]
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False
    )
    said = f"the last line\nlook at         {tmp_path / 'out' / 'report.html'}\nSIG_IGN\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, said, "")


@pytest.mark.slow
def test_a_notebooks_backend_a_plain_locale_and_a_class_whose_name_is_no_text_are_all_right(tmp_path: Path) -> None:
    """In one process, since each takes seconds to start."""
    for name in (b"$^$", "七".encode(), b"caf\xe9"):
        folder = Path(os.fsdecode(os.fsencode(tmp_path / "images") + b"/" + name))
        folder.mkdir(parents=True)
        for i in range(12):
            Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(folder / f"{i}.png")
    short = ["--model=logistic", "--epochs=1", "--num_samples=300", "--batch_size=100", "--permutations=19"]
    short += ["--gradient_samples=0"]
    places = [
        f"--dataset=folder:{tmp_path / 'images'}",
        f"--checkpoint_dir={tmp_path}",
        f"--out_dir={tmp_path / 'out'}",
    ]
    command = [sys.executable, "-m", "experiments.noise_maps", *short, *places]
    ended = in_an_environment(command, MPLBACKEND="module://nowhere.backend_inline", LC_ALL="POSIX")
    assert ended.returncode == 0, ended.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == 6


def test_a_package_that_is_not_installed_is_one_line() -> None:
    for name in ("noise_maps", "timing"):
        command = [sys.executable, "-S", "-m", f"experiments.{name}"]  # without what is installed
        ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert ended.returncode == 1
        assert re.fullmatch(r"error: the package \w+ is not installed: say python -m pip install .*\n", ended.stderr)


@pytest.mark.slow
def test_noise_does_not_depend_on_the_generator_that_jax_is_set_to() -> None:
    code = "from wna_jax import draw_samples, noise; print(draw_samples(noise.uniform((2, 2, 1)), 3, seed=5).tolist())"
    command = [sys.executable, "-c", code]
    usual, other = (in_an_environment(command, JAX_DEFAULT_PRNG_IMPL=name) for name in ("threefry2x32", "rbg"))
    assert usual.stdout == other.stdout != ""


def test_without_a_home_caches_are_temporary(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("WNA_JAX_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "expanduser", nobody)
    assert str(os.getuid()) in files.cache_directory().name


def test_a_figure_that_fails_takes_nothing_with_it(tmp_path: Path) -> None:
    def draw() -> Any:
        broken = Figure()
        broken.draw = fails  # type: ignore[method-assign,assignment]
        yield "broken.png", broken
        yield "whole.png", Figure()
        fails()

    def fails(*_: Any) -> None:
        raise ValueError("no such colour\nat all")

    result = Result({"count": 3}, draw=draw, arrays={"maps.npz": {"a": [1, 2]}})
    with pytest.raises(
        InputError, match=r"not drawn: broken.png \(no such colour\); the next figure \(no such colour\)"
    ):
        result.write(tmp_path, Toy())
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"count": 3}
    written = ["config.json", "maps.npz", "metrics.json", "report.html", "whole.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == written


def test_a_figure_in_whose_place_is_a_folder_takes_nothing_with_it(tmp_path: Path) -> None:
    for name in ("first.png", "first.pdf"):
        (tmp_path / name).mkdir()
    result = Result({}, draw=lambda: iter([("first.png", Figure()), ("second.png", Figure())]))
    with pytest.raises(
        InputError, match=r"not drawn: first.png \(Is a directory\); first.pdf \(Is a directory\)\. The"
    ):
        result.write(tmp_path, Toy(figures=("png", "svg", "pdf")))
    files_there = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    figures_there = ["first.svg", "second.pdf", "second.png", "second.svg"]
    assert files_there == sorted(["config.json", "metrics.json", "report.html", *figures_there])
    (tmp_path / "maps.npz").mkdir()
    with pytest.raises(IsADirectoryError) as other:
        replace(result, arrays={"maps.npz": {}}).write(tmp_path, Toy())
    assert other.value.filename == str(tmp_path / "maps.npz")


def test_figures_are_written_in_the_formats_that_are_asked_for(tmp_path: Path) -> None:
    settings = parsed(Toy, "--figures=pdf,png,svg", f"--out_dir={tmp_path}")
    assert Result({}, draw=lambda: iter([("one.png", Figure())])).write(tmp_path, settings)[0] == "one.pdf"
    starts = {kind: (tmp_path / f"one.{kind}").read_bytes()[:60] for kind in ("pdf", "png", "svg")}
    assert starts["pdf"].startswith(b"%PDF")
    assert starts["png"].startswith(b"\x89PNG")
    assert starts["svg"].startswith(b"<?xml")
    with pytest.raises(InputError, match="unknown figures 'jpeg': choose one of png, pdf, svg"):
        Toy(figures=("jpeg",))


@pytest.mark.parametrize(("extra", "status"), [([], 0), (["c"], 2)])
def test_arguments_without_the_name_of_a_flag_are_those_of_some_flags(
    extra: list[str],
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: list[Any] = []

    def run(settings: Any, report: Any) -> Result:
        seen.append((settings.first, settings.second, settings.seed))
        return Result({})

    arguments = ["compare", "a", "b", *extra, "--seed=3", f"--out_dir={tmp_path}"]
    assert started(monkeypatch, arguments, run, compare.Settings, ("first", "second")) == status
    assert seen == ([] if extra else [("a", "b", 3)])
    assert ("unexpected argument 'c'" in capsys.readouterr().err) == bool(extra)


def test_a_refused_run_leaves_no_folders_but_what_was_there(tmp_path: Path) -> None:
    def refuse(settings: Settings, report: Any) -> Result:
        report(Progress("training", 1, 1, "images"))
        raise InputError("unknown layer")

    (tmp_path / "there").mkdir()
    for folder in ("there", "new/folder"):
        with pytest.raises(InputError, match="unknown layer"):
            launch.execute(refuse, Toy(out_dir=str(tmp_path / folder)))
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["there", "there/log.jsonl"]


@pytest.mark.parametrize(
    ("size", "name"), [(300, "log.jsonl"), (500, "metrics.json"), (1_000, "maps.npz"), (20_000, "figure.png")]
)
def test_what_does_not_fit_on_the_disk_is_named_and_not_there(
    size: int, name: str, tmp_path: Path, disk_of: Any
) -> None:
    def run(settings: Settings, report: Any) -> Result:
        report(Progress("noise", 1, 1, "samples"))
        arrays = {"maps.npz": {"a": np.zeros(1_000)}}
        return Result({"numbers": list(range(100))}, draw=lambda: iter([("figure.png", noisy)]), arrays=arrays)

    noisy = Figure()
    noisy.add_subplot().imshow(np.random.default_rng(0).uniform(size=(99, 99)))
    if name == "log.jsonl":
        (tmp_path / name).write_text("{}\n" * 100)
    with disk_of(size), pytest.raises(OSError, match="File too large") as full:
        launch.execute(run, Toy(out_dir=str(tmp_path)))
    assert full.value.filename == str(tmp_path / name)
    assert name == "log.jsonl" or not (tmp_path / name).exists()
    assert not list(tmp_path.glob(".*"))


def test_a_second_job_in_the_output_folder_is_refused_at_once(tmp_path: Path) -> None:
    def second(settings: Settings, report: Any) -> Result:
        with pytest.raises(InputError, match=r"another job is writing to .*: wait for it, or give another --out_dir"):
            launch.execute(second, settings)
        return Result({})

    launch.execute(second, Toy(out_dir=str(tmp_path)))


def test_every_printed_command_names_flags_of_its_experiment() -> None:
    commands = [
        found
        for path in (*ROOT.glob("*.md"), ROOT / "results" / "README.md", *(ROOT / "experiments").glob("*.py"))
        for found in re.finditer(r"python -m experiments\.(\w+)([^\n`]*)", path.read_text())
        if found[1] in EXPERIMENTS
    ]
    assert len(commands) > 80
    for command in commands:
        known = {each.name for each in fields(settings_type(command[1]))} | {"help", *launch._PROCESS_FLAGS}
        assert set(re.findall(r"--(\w+)", command[2])) <= known, command[0]
