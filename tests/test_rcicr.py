"""Stimulus files of rcicr: read as the package defines its noise, and analysed as it defines its images and infoVal."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from experiments.observer import Settings, run
from wna_jax import draw_samples, noise, observers, statistics
from wna_jax.noise import checks
from wna_jax.observers import Trials, rcicr, read_trials
from wna_jax.runs.errors import InputError

rdata = pytest.importorskip("rdata")

SIZE, SCALES, COUNT = 16, 2, 200
WEIGHTS = 12 * (1 + 4)


def pattern(size: int, scales: int) -> tuple[np.ndarray, np.ndarray]:
    """Patches and numbers of parameters as rcicr describes them: 6 orientations and 2 phases per scale, 2 cycles each.

    The same, bit for bit, as in the files that rcicr 1.0.1 and 1.1.0 wrote and that it keeps for its own tests.
    """
    patches, index, number = [], [], 1
    for cells in (2**scale for scale in range(scales)):
        x = np.linspace(0, 2, size // cells)
        for angle in np.deg2rad([0, 30, 60, 90, 120, 150]):
            for phase in (0, np.pi / 2):
                wave = np.sin((x[None] * np.cos(angle) + x[:, None] * np.sin(angle)) * 2 * np.pi + phase)
                patches.append(np.tile(wave, (cells, cells)))
                numbers = number + np.arange(cells**2).reshape(cells, cells).T  # down the columns, as R counts
                index.append(np.kron(numbers, np.ones((len(x), len(x)))))
                number += cells**2
    return np.stack(patches, axis=-1), np.stack(index, axis=-1)


def content(**other: Any) -> dict[str, Any]:
    """What rcicr saves, with some of it changed, or left out (None)."""
    patches, index = pattern(SIZE, SCALES)
    random = np.random.default_rng(0)
    saved = {
        "base_faces": {"face": random.random((SIZE, SIZE))},
        "img_size": float(SIZE),
        "n_trials": float(COUNT),
        "noise_type": "sinusoid",
        "p": {"patches": patches, "patchIdx": index, "noise_type": "sinusoid"},
        "seed": 1.0,
        "stimuli_params": {"face": random.uniform(-1, 1, (COUNT, WEIGHTS))},
    }
    return {name: value for name, value in (saved | other).items() if value is not None}


def written(folder: Path, **other: Any) -> Path:
    path = folder / "rcic_seed_1_time_Jan_01_2026_00_00.Rdata"
    rdata.write_rda(path, content(**other))
    return path


def images_of(saved: dict[str, Any], base: str = "face") -> np.ndarray:
    """The noise of all stimuli by its definition, [N, H, W]."""
    patches, index = saved["p"]["patches"], saved["p"]["patchIdx"].astype(int) - 1
    return np.stack([(patches * theta[index]).mean(axis=-1) for theta in saved["stimuli_params"][base]])


def table(folder: Path, *rows: str, columns: str = "participant,stimulus,response") -> Path:
    path = folder / "answers.csv"
    path.write_text("\n".join([columns, *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> rcicr.StimulusFile:
    return rcicr.read(written(tmp_path_factory.mktemp("rcicr")))


def answers(seed: int = 0, trials: int = COUNT) -> Trials:
    """Blind answers to the trials in another order, as `read_trials` gives them: as many of 1 as of -1."""
    random = np.random.default_rng(seed)
    responses = random.permutation(np.repeat([1, -1], trials // 2))
    return Trials(random.permutation(COUNT)[:trials] + 1, responses, rows=np.arange(trials) + 2)


def test_stimuli_are_the_sums_of_patches_that_the_file_says(file: rcicr.StimulusFile) -> None:
    saved = content()
    np.testing.assert_allclose(file.patterns.images(file.parameters["face"])[..., 0], images_of(saved), atol=1e-7)
    np.testing.assert_array_equal(file.bases["face"][..., 0], saved["base_faces"]["face"])
    assert (file.kind, file.base(), file.patterns.count) == ("sinusoid", "face", WEIGHTS)


def test_files_of_before_0_3_3_are_read(tmp_path: Path) -> None:
    patches, index = pattern(16, 5)  # patches of a single pixel at the finest scale
    theta = np.random.default_rng(0).uniform(-1, 1, (3, 4096))  # of which 4092 are used
    path = written(tmp_path, p=None, s={"sinusoids": patches, "sinIdx": index}, stimuli_params={"face": theta})
    found = rcicr.read(path)
    expected = (patches * theta[1][index.astype(int) - 1]).mean(axis=-1)
    np.testing.assert_allclose(found.patterns.images(found.parameters["face"][1:2])[0, ..., 0], expected, atol=1e-7)
    dropped = {"patches": patches[..., :12], "patchIdx": index[..., :12] - 1}  # counted from 0: the first is not shown
    found = rcicr.read(written(tmp_path, p=dropped, stimuli_params={"face": theta[:, :12]}))
    expected = (patches[..., 1:12] * theta[1, :11]).sum(axis=-1) / 12
    np.testing.assert_allclose(found.patterns.images(found.parameters["face"][1:2])[0, ..., 0], expected, atol=1e-7)


def test_the_noise_is_what_it_declares_with_the_covariance_of_its_patches(file: rcicr.StimulusFile) -> None:
    shown = file.patterns.noise("sinusoid")
    checks.check(shown)
    draws = np.asarray(draw_samples(shown, 2_000), np.float64).reshape(2_000, -1)
    exact = noise.covariance(shown)
    np.testing.assert_allclose(np.sqrt(np.diag(exact)), shown.deviation.ravel(), rtol=1e-5)
    error = np.sqrt((exact**2 + np.outer(np.diag(exact), np.diag(exact))) / len(draws))
    assert np.abs((draws.T @ draws / len(draws) - exact) / error).max() < 5.5  # of 65,536 entries


def test_classification_images_and_info_val_are_those_that_rcicr_defines(file: rcicr.StimulusFile) -> None:
    own = answers()._replace(responses=np.where(np.random.default_rng(1).random(COUNT) < 0.6, 1, -1))
    x = images_of(content())[own.stimuli - 1].reshape(COUNT, -1)
    ci = own.responses @ x / COUNT  # generateCI: the mean of responses times parameters, as an image
    np.testing.assert_allclose(file.classification_image(own).ravel(), ci, atol=1e-7)
    random = 2 * np.random.default_rng(3).integers(0, 2, (10_000, COUNT)) - 1  # generateReferenceDistribution2IFC
    norms = np.linalg.norm(random @ x / COUNT, axis=1)
    expected = (np.linalg.norm(ci) - np.median(norms)) / stats.median_abs_deviation(norms, scale="normal")
    assert file.info_val(own, seed=3) == pytest.approx(expected, rel=1e-3)  # the scale is 1.4826 in R, in full here
    assert file.info_val(answers(trials=2)._replace(stimuli=np.array([1]), responses=np.array([1]))) is None


def test_maps_are_rcicrs_with_the_error_of_the_linear_map(file: rcicr.StimulusFile, tmp_path: Path) -> None:
    own = answers()
    trials, shown = file.found_stimuli(tmp_path, {"ann": own})
    found = observers.analyse_trials(trials["ann"].stimuli, own.responses, noise=shown).maps["choice"]
    np.testing.assert_allclose(found.images[0], file.classification_image(own), atol=1e-7)  # answers are balanced
    patches, _ = pattern(SIZE, SCALES)
    variance = (np.square(patches / patches.shape[-1])).sum(axis=-1) / 3  # each layer has a parameter of its own
    np.testing.assert_allclose(found.standard_error[0, ..., 0], np.sqrt(variance / COUNT), rtol=1e-5)
    small, coarse = file.found_stimuli(tmp_path, {"ann": own}, size=(8, 8))
    half = observers.analyse_trials(small["ann"].stimuli, own.responses, noise=coarse).maps["choice"]
    squares = np.asarray(found.images[0, ..., 0]).reshape(8, 2, 8, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(half.images[0, ..., 0], squares, atol=1e-7)
    theta = file.parameter_map(tmp_path, {"ann": own})
    np.testing.assert_allclose(file.patterns.images(theta.images[0, ..., 0].filled())[0], found.images[0], atol=1e-6)
    np.testing.assert_allclose(theta.standard_error, np.sqrt(1 / 3 / COUNT), rtol=1e-6)


def test_what_observers_look_for_comes_back_from_a_table_and_a_file(tmp_path: Path) -> None:
    saved, lines, chosen = content(), [], [2, 30]
    theta = saved["stimuli_params"]["face"]
    for i, who in enumerate(["ann", "bo", "cy", "di"]):
        seen = theta[:, chosen].sum(axis=1) + 0.5 * np.random.default_rng(i).standard_normal(COUNT)
        lines += [f"{who},{k + 1},{1 if seen[k] > 0 else -1},face" for k in range(COUNT)]
    path = table(tmp_path, *lines, "ann,1,1,other", columns="participant,stimulus,response,base")
    settings = Settings(
        trials=str(path), stimuli=str(written(tmp_path)), permutations=99, scaling="constant", scaling_constant=0.2
    )
    result = run(settings)
    ci = result.arrays["ci.npz"]
    w = np.array([int(line.split(",")[2]) for line in lines]).reshape(4, COUNT)
    x = images_of(saved)
    np.testing.assert_allclose(ci["ci_group"], np.tensordot(w.mean(axis=0), x, 1) / COUNT, atol=1e-6)
    assert result.metrics["group"]["parameters"] == {"of": WEIGHTS, "significant": 2}
    assert result.metrics["group"]["significant_pixels"]["pixels"] > 0
    assert result.metrics["participants"]["ann"]["info_val_rcicr"] > 3
    ((name, figure),) = result.draw()
    assert name == "observers.png"
    assert isinstance(figure, Figure)
    other = table(tmp_path, "1,1,other", columns="stimulus,response,base")
    with pytest.raises(InputError, match="no trials of the base image 'face', only of other"):
        run(Settings(trials=str(other), stimuli=settings.stimuli))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"stimuli_params": None}, "has no stimuli_params, only base_faces, img_size"),
        ({"p": None}, "has no p, only"),
        ({"base_faces": None}, "has no base_faces"),
        ({"p": {"patches": np.zeros((4, 4, 2))}}, r"has nothing as p\$patchIdx"),
        ({"p": 3.0}, "has p of type ndarray: expected a list"),
        ({"p": {"patches": np.zeros((4, 4, 2)), "patchIdx": np.ones((4, 4, 3))}}, r"p\$patches of \(4, 4, 2\)"),
        ({"p": {"patches": np.zeros((16, 16, 2)), "patchIdx": np.full((16, 16, 2), 0.5)}}, "whole numbers from 1"),
        ({"stimuli_params": {"face": np.zeros((5, 59))}}, "has 59 parameters per stimulus for 60 patches"),
        ({"stimuli_params": {"face": np.full((5, 60), 2.0)}}, "parameters up to 2: expected those of rcicr"),
        ({"stimuli_params": {"face": np.full((5, 60), np.nan)}}, r"stimuli_params\$face: expected finite"),
        ({"stimuli_params": {"cat": np.zeros((5, 60))}}, "base_faces face and stimuli_params cat"),
        ({"base_faces": {"face": np.zeros((8, 8))}}, "a base image of 8x8 pixels and noise of 16x16 pixels"),
    ],
)
def test_files_that_lack_something_or_do_not_fit_are_refused(
    changed: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = written(tmp_path, **changed)
    with pytest.raises(InputError, match=said) as raised:
        rcicr.read(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_damaged_files_and_a_missing_package_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"RDX3\nX\n" + bytes(9), b"not R", b""):
        path.write_bytes(broken)
        with pytest.raises(InputError, match="is damaged") as raised:
            rcicr.read(path)
        assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match=r"nowhere\.Rdata is not there"):
        rcicr.read("nowhere.Rdata")
    monkeypatch.setitem(sys.modules, "rdata", None)
    with pytest.raises(InputError, match="pip install rdata"):
        rcicr.read(path)


@pytest.mark.parametrize(
    ("columns", "rows", "settings", "said"),
    [
        ("stimulus,response", ["1,1", "201,-1"], {}, "row 3: stimulus 201 is not there: .*Rdata has 1 to 200"),
        ("stimulus,response", ["0,1", "2,-1"], {}, "row 2: stimulus 0 is not there"),
        ("stimulus,response", ["a_00001_ori.png,1"], {}, "row 2: stimulus 'a_00001_ori.png' is no number"),
        ("stimulus,response", ["1,1", "2,2"], {}, r"row 3: response '2': expected 1 .the original. and -1"),
        ("stimulus,response", ["1,1", "2,0"], {}, "row 3: response '0': expected 1"),
        ("stimulus,response", ["1,left", "2,left"], {}, "row 2: response 'left': .*--yes=left"),
        ("stimulus,second,response", ["1,2,1"], {}, "leave it out"),
        ("stimulus,response", ["1,1", "1,-1"], {}, "saw stimulus 1 twice"),
        ("stimulus,response", ["1,1", "2,-1"], {"base": "cat"}, "unknown base image 'cat'"),
        ("stimulus,response", ["1,1", "2,-1"], {"noise": "uniform"}, "leave it out"),
        ("stimulus,response", ["1,1", "2,-1"], {"image_shape": (5, 5)}, "maps of 5x5 pixels for stimuli of 16x16"),
    ],
)
def test_tables_that_do_not_fit_the_file_are_refused(
    columns: str, rows: list[str], settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = table(tmp_path, *rows, columns=columns)
    with pytest.raises(InputError, match=said) as raised:
        run(Settings(trials=str(path), stimuli=str(written(tmp_path)), **settings))
    assert "\n" not in str(raised.value)


def test_other_codes_are_read_where_yes_says_which_and_bases_are_chosen(tmp_path: Path) -> None:
    path = table(tmp_path, "1,left", "2,right", columns="stimulus,response")
    assert read_trials(path, inverted=True, yes="left")["participant"].responses.tolist() == [1, -1]
    random = np.random.default_rng(1)
    several = {name: random.random((SIZE, SIZE)) for name in ("man", "woman")}
    theta = {name: random.uniform(-1, 1, (COUNT, WEIGHTS)) for name in several}
    found = rcicr.read(written(tmp_path, base_faces=several, stimuli_params=theta))
    with pytest.raises(InputError, match="has the base images man, woman: say which, such as --base=man"):
        found.base()
    own = answers(trials=10)
    x = np.tensordot(own.responses, theta["woman"][own.stimuli - 1], 1) / 10
    np.testing.assert_allclose(
        found.classification_image(own, base="woman"), found.patterns.images(x[None])[0], atol=1e-7
    )


@pytest.mark.slow
def test_blind_observers_of_rcicrs_noise_are_significant_in_05_of_runs(file: rcicr.StimulusFile) -> None:
    runs, rate = 400, 0.05
    counted: dict[str, int] = {}
    for run_ in range(runs):
        random = np.random.default_rng(run_)
        theta = random.uniform(-1, 1, (COUNT, WEIGHTS))  # other stimuli in each run
        own = rcicr.StimulusFile(file.path, file.kind, file.patterns, {"face": theta}, file.bases)
        blind = Trials(np.arange(COUNT) + 1, np.where(random.random(COUNT) < 0.5, 1, -1), rows=np.arange(COUNT))
        trials, shown = own.found_stimuli("", {"blind": blind})
        analysis = observers.analyse_trials(trials["blind"].stimuli, blind.responses, noise=shown)
        found = analysis.findings("choice", permutations=39, seed=run_)
        of = {name: inside is not None and bool(inside.any()) for name, inside in found.significant.items()}
        assert found.info_val is not None
        of["infoVal"] = bool(found.info_val[0] > 1.96)
        of["rcicr"] = (own.info_val(blind, iterations=2_000, seed=run_) or 0) > 1.96
        z = statistics.z_map(own.parameter_map("", {"blind": blind}))
        of["parameters"] = bool(statistics.significant_pixels(z).any())
        for name, significant in of.items():
            counted[name] = counted.get(name, 0) + significant
    rates = {name: count / runs for name, count in counted.items()}
    info, published = rates.pop("infoVal"), rates.pop("rcicr")
    assert info < 0.025 + 3 * np.sqrt(0.025 * 0.975 / runs), rates
    assert published < 0.07, published  # lengths are skewed: .0375, and it is rcicr's own definition
    assert all(abs(each - rate) < 3 * np.sqrt(rate * (1 - rate) / runs) for each in rates.values()), rates
