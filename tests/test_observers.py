"""Maps of people: against direct sums, theory, published definitions; and back from the stimuli that were exported."""

import csv
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from wna_jax import draw_samples, export_stimuli, load, maps, moments_from_trials, noise, observers, statistics
from wna_jax.analysis import Analysis
from wna_jax.observers import Drawn, Trials
from wna_jax.runs.errors import InputError

WHITE = noise.gaussian((8, 8, 1), 0.5, 0.2)
ROWS, COLUMNS = np.mgrid[:8, :8]
BLOB = np.exp(-((ROWS - 2) ** 2 + (COLUMNS - 5) ** 2) / 4.0)
TEMPLATE = (BLOB - BLOB.mean())[..., None]
RANDOM = np.random.default_rng(0)


def noise_images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.5, 0.2, (count, 8, 8, 1)).astype(np.float32)


def analysed(stimuli: Any, responses: Any, **options: Any) -> Analysis:
    return observers.analyse_trials(stimuli, responses, noise=options.pop("noise", WHITE), **options)


def test_the_map_of_yes_and_no_is_the_difference_of_their_means_with_its_known_error() -> None:
    x, yes = noise_images(300).astype(np.float64), RANDOM.random(300) < 0.3
    found = maps.choice_images(moments_from_trials(x, yes), WHITE)
    np.testing.assert_allclose(found.images[0], x[yes].mean(axis=0) - x[~yes].mean(axis=0), atol=1e-7)
    np.testing.assert_allclose(found.standard_error[0], 0.2 * np.sqrt(1 / yes.sum() + 1 / (~yes).sum()))
    z = statistics.z_map(maps.classification_images(moments_from_trials(x, yes), WHITE))
    np.testing.assert_allclose(statistics.z_map(found), z, rtol=1e-9)


def test_the_map_of_a_forced_choice_is_chosen_minus_not_chosen_with_both_intervals_counted_alike() -> None:
    a, b = noise_images(400).astype(np.float64), noise_images(400, 1).astype(np.float64)
    first = RANDOM.permutation(np.repeat([1, -1], [130, 270]))
    found = maps.choice_images(moments_from_trials(a, first, second=b), observers.stimuli.difference(WHITE))
    chosen = (a - b)[first > 0].mean(axis=0), (b - a)[first < 0].mean(axis=0)
    np.testing.assert_allclose(found.images[0], (chosen[0] + chosen[1]) / 2, atol=1e-7)
    expected = np.sqrt(2) * 0.2 * np.sqrt(1 / 130 + 1 / 270) / 2
    np.testing.assert_allclose(found.standard_error[0], expected)


def test_kinds_of_trials_are_combined_by_their_variances_and_no_signal_leaks() -> None:
    signal = np.arange(600) % 3 > 0
    x = noise_images(600).astype(np.float64) + 3 * signal[:, None, None, None] * TEMPLATE
    yes = RANDOM.random(600) < np.where(signal, 0.8, 0.3)  # sees the signal, and no pixel of the noise
    halves = observers.moments_in_halves(x, yes, classes=np.where(signal, "signal", "noise"))
    half = observers.stimuli.half_of(observers.stimuli.source_of(x).identities(np.arange(600)))
    total, weight = 0, 0
    for own in (signal & (half == 0), ~signal & (half == 0)):
        p, n = yes[own].mean(), own.sum()
        total = total + n * p * (1 - p) * (x[own & yes].mean(axis=0) - x[own & ~yes].mean(axis=0))
        weight = weight + n * p * (1 - p)
    found = maps.choice_images(halves.first, WHITE)
    np.testing.assert_allclose(found.images[0], total / weight, atol=1e-6)
    np.testing.assert_allclose(found.standard_error[0], 0.2 / np.sqrt(weight))
    whole = statistics.z_map(maps.choice_images(halves.first + halves.second, WHITE))
    leaking = statistics.z_map(maps.choice_images(moments_from_trials(x, yes), WHITE))
    assert whole.std() == pytest.approx(1, abs=3 / np.sqrt(128))
    assert abs(statistics.map_correlation(whole, TEMPLATE[None])[0]) < 3 / np.sqrt(64)
    assert statistics.map_correlation(leaking, TEMPLATE[None])[0] > 0.9
    assert halves.first.count[0] + halves.second.count[0] == yes.sum()


def test_draws_arrays_and_files_of_the_same_stimuli_give_the_same_sums(tmp_path: Path) -> None:
    uniform = noise.uniform((6, 5, 3))
    numbers = RANDOM.permutation(200)[:150]
    export_stimuli(tmp_path, uniform, 200, seed=4)
    answers = RANDOM.integers(0, 2, 150)
    drawn = moments_from_trials(Drawn(uniform, numbers, 4), answers)
    images = np.asarray(draw_samples(uniform, 200, seed=4))[numbers]
    np.save(tmp_path / "x.npy", images)
    mapped = moments_from_trials(np.load(tmp_path / "x.npy", mmap_mode="r"), answers)
    bytes_ = moments_from_trials(np.rint(images * 255).astype(np.uint8), answers)
    files = moments_from_trials([tmp_path / f"{i:06d}.png" for i in numbers], answers)
    for name in ("sum", "total_sum", "square_sum", "total_square_sum"):
        np.testing.assert_allclose(getattr(drawn, name), getattr(mapped, name), atol=1e-5)
        np.testing.assert_allclose(getattr(files, name), getattr(bytes_, name), rtol=1e-12)
        np.testing.assert_allclose(getattr(files, name), getattr(drawn, name), atol=150 / 255)


@pytest.mark.parametrize(
    ("design", "criterion", "internal"), [("yes_no", 0.0, 0.0), ("yes_no", 0.8, 1.0), ("2afc", 0.5, 0.7)]
)
def test_the_template_of_a_linear_observer_is_found_as_well_as_theory_says(
    design: str, criterion: float, internal: float
) -> None:
    trials, runs = 500, 60
    see = observers.linear_observer(TEMPLATE, WHITE)
    n0 = observers.n0_of_linear_observer(64, internal, criterion, 1 if design == "yes_no" else 2)
    found, split = [], []
    for run in range(runs):
        a = noise_images(trials, 2 * run)
        b = noise_images(trials, 2 * run + 1) if design == "2afc" else None
        answers = observers.answer(see, a, b, criterion=criterion, internal_noise=internal, seed=run)
        shown = WHITE if b is None else observers.stimuli.difference(WHITE)
        analysis = analysed(a, answers, second=b, noise=shown)
        found.append(statistics.map_correlation(analysis.maps["choice"].images, TEMPLATE[None])[0])
        split.append(analysis.reliability["choice"].correlation[0])
    expected = statistics.predicted_correlation(trials, n0)
    assert 0.6 < expected < 0.95
    assert np.mean(found) == pytest.approx(expected, abs=3 * np.std(found) / np.sqrt(runs) + 0.25 / 64)
    of_halves = statistics.predicted_correlation(trials / 2, n0) ** 2
    assert np.mean(split) == pytest.approx(of_halves, abs=3 * np.std(split) / np.sqrt(runs) + 0.25 / 64)


def test_with_signals_each_kind_of_trial_has_its_criterion() -> None:
    trials, runs, strength = 500, 60, 1.5
    see, shape = observers.linear_observer(TEMPLATE, WHITE), TEMPLATE / np.linalg.norm(TEMPLATE)
    present = np.arange(trials) % 2
    n0 = observers.n0_of_linear_observer(64, 0.5, [0.9, 0.9 - strength])
    found = []
    for run in range(runs):
        x = noise_images(trials, run) + strength * 0.2 * present[:, None, None, None] * shape
        answers = observers.answer(see, x, criterion=0.9, internal_noise=0.5, seed=run)
        analysis = analysed(x, answers, classes=present)
        found.append(statistics.map_correlation(analysis.maps["choice"].images, TEMPLATE[None])[0])
    expected = statistics.predicted_correlation(trials, n0)
    assert np.mean(found) == pytest.approx(expected, abs=3 * np.std(found) / np.sqrt(runs) + 0.25 / 64)


def test_maps_and_info_val_are_those_that_rcicr_defines() -> None:
    n = 400
    x = noise_images(n).astype(np.float64) - 0.5
    w = RANDOM.permutation(np.repeat([1, -1], n // 2))
    about_zero = noise.gaussian((8, 8, 1), 0.0, 0.2)
    found = analysed(x, w, noise=about_zero)
    ci = (w @ x.reshape(n, -1) / n).reshape(8, 8, 1)  # generateCI: the mean of parameters times responses
    np.testing.assert_allclose(found.maps["choice"].images[0], ci, atol=1e-7)
    # computeInfoVal2IFC: the Frobenius norm beside those of random responders to the same stimuli, median and MAD
    responders = np.where(RANDOM.random((10_000, n)) > 0.5, 1, -1)
    norms = np.linalg.norm(responders @ x.reshape(n, -1) / n, axis=1)
    for more in (0, 2):  # a map of noise, and one of strong signal
        image = (1 + more) * ci
        z = (1 + more) * statistics.z_map(found.maps["choice"])
        expected = (np.linalg.norm(image) - np.median(norms)) / (1.4826 * stats.median_abs_deviation(norms))
        assert statistics.info_val(z)[0] == pytest.approx(expected, abs=0.1 + 0.05 * abs(expected))


def test_scaled_maps_are_those_that_rcicr_defines() -> None:
    ci, base = np.array([[-0.2, 0.1], [0.0, 0.05]])[..., None], np.array([[0.1, 0.9], [0.5, 0.4]])[..., None]
    independent = [[0.0, 0.75], [0.5, 0.625]]  # (ci + .2) / .4
    np.testing.assert_allclose(observers.scaled(ci)[..., 0], independent)
    np.testing.assert_allclose(observers.scaled(ci, "constant", constant=0.5)[..., 0], [[0.3, 0.6], [0.5, 0.55]])
    matched = 0.1 + 0.8 * (ci + 0.2) / 0.3
    np.testing.assert_allclose(observers.scaled(ci, "matched", base), matched)
    np.testing.assert_allclose(observers.on_base(ci, base)[..., 0], (independent + base[..., 0]) / 2)
    with pytest.raises(InputError, match="matched"):
        observers.scaled(ci, "matched")


def test_noise_that_is_estimated_from_the_stimuli_is_that_of_the_stimuli() -> None:
    x, base = noise_images(4_000), np.arange(4_000) % 2
    x = x + base[:, None, None, None] * 5 * TEMPLATE.astype(np.float32)
    found = observers.noise_of(x, classes=base)
    np.testing.assert_allclose(found.deviation, 0.2, rtol=5 / np.sqrt(8_000))
    drawn = draw_samples(found, 4_000)
    np.testing.assert_allclose(np.std(drawn, axis=0), 0.2, rtol=7 / np.sqrt(8_000))
    paired = observers.noise_of(x[::2], x[1::2])
    np.testing.assert_allclose(paired.deviation, 0.2 * np.sqrt(2), rtol=6 / np.sqrt(4_000))


def trials_of(people: int, count: int, shared: bool, **how: Any) -> dict[str, Trials]:
    """People with one template, who are shown the same stimuli or others."""
    see, found = observers.linear_observer(TEMPLATE, WHITE), {}
    for i in range(people):
        x = noise_images(count, 0 if shared else i)
        found[f"P{i}"] = Trials(x, observers.answer(see, x, seed=i, **how))
    return found


def test_the_error_of_a_group_with_stimuli_of_their_own_is_that_across_its_members() -> None:
    people = trials_of(6, 300, False, internal_noise=2.0)
    shared = observers.shared_noise(list(people.values()))
    np.testing.assert_allclose(shared - np.diag(np.diag(shared)), 0)
    found = observers.analyse_group(people, WHITE, permutations=19)
    each = np.stack([one.maps["choice"].images[0] for one in found.analyses.values()])
    t, p = stats.ttest_1samp(each, 0, axis=0)
    np.testing.assert_allclose(found.map.in_standard_errors[0], t)
    np.testing.assert_allclose(np.asarray(found.map.degrees_of_freedom), [5])
    exact = stats.norm.isf(p / 2)
    np.testing.assert_allclose(np.abs(statistics.z_map(found.map)[0]), exact, rtol=0.02, atol=1e-3)
    assert (np.abs(statistics.z_map(found.map)[0]) < exact + 0.002).all()  # conservative in the tails


def test_the_error_of_two_is_that_of_their_trials_whose_noise_they_share() -> None:
    two = trials_of(2, 300, True, internal_noise=1.0)
    x, (one, other) = noise_images(300).astype(np.float64), (own.responses for own in two.values())
    weights = sum((w - w.mean()) / np.square(w - w.mean()).sum() / 2 for w in (one, other))
    found = observers.analyse_group(two, WHITE, permutations=19).map
    np.testing.assert_allclose(found.images[0], np.tensordot(weights, x, 1), atol=1e-6)
    np.testing.assert_allclose(found.standard_error, 0.2 * np.linalg.norm(weights))
    assert found.degrees_of_freedom is None
    alone = observers.analyse_group({"P0": two["P0"]}, WHITE, permutations=19)
    np.testing.assert_allclose(alone.map.standard_error, alone.analyses["P0"].maps["choice"].standard_error)


def test_noise_that_two_share_in_a_forced_choice_counts_by_the_stimulus() -> None:
    a, b, c = (noise_images(200, seed) for seed in range(3))
    w, v = (np.random.default_rng(seed).integers(0, 2, 200) * 2 - 1 for seed in (1, 2))
    people = [Trials(a, w, b), Trials(a, v, b), Trials(b, w, a), Trials(a, v, c)]
    found = observers.shared_noise(people)
    u, t = ((each - each.mean()) / np.square(each - each.mean()).sum() for each in (w, v))
    assert found[0, 0] == pytest.approx((u * u).sum())
    assert found[0, 1] == pytest.approx((u * t).sum())
    assert found[0, 2] == pytest.approx(-(u * u).sum())  # the same pairs, the other way round
    assert found[0, 3] == pytest.approx((u * t).sum() / 2)  # one stimulus of each pair


def test_one_who_gave_one_answer_alone_has_no_map_and_does_not_count() -> None:
    people = trials_of(3, 200, False) | {"same": Trials(noise_images(200, 9), np.ones(200))}
    found = observers.analyse_group(people, WHITE, permutations=19)
    assert found.analyses["same"].maps["choice"].images.count() == 0
    assert found.with_a_map == 3
    np.testing.assert_allclose(np.asarray(found.map.degrees_of_freedom), [2])
    assert found.agreement.correlation.mask.tolist() == [False, False, False, True]
    alone = observers.analyse_group({"same": people["same"]}, WHITE, permutations=19)
    assert alone.map.images.count() == 0
    assert alone.agreement.icc is None


def test_observers_with_one_template_agree_as_much_as_their_noise_allows() -> None:
    agreed = observers.analyse_group(trials_of(8, 2_000, True, internal_noise=1.0), WHITE, permutations=19).agreement
    assert agreed.corrected.count() == 8
    assert agreed.corrected.mean() == pytest.approx(1, abs=0.05)
    assert agreed.correlation.max() < 0.95
    assert agreed.icc is not None
    assert agreed.icc.average > agreed.icc.single > 0.5


def test_noise_that_observers_share_is_no_agreement() -> None:
    blind, x = np.random.default_rng(5).integers(0, 2, 2_000), noise_images(2_000)
    people = {name: analysed(x, blind) for name in ("one", "copy")}
    agreed = observers.agreement(people)
    assert np.abs(agreed.correlation).max() < 3 / np.sqrt(64)  # though both maps are the same
    assert agreed.corrected.count() == 0


def test_pairs_in_another_order_are_the_same_stimuli_and_no_agreement() -> None:
    blind, numbers = np.random.default_rng(5).integers(0, 2, 2_000) * 2 - 1, np.arange(2_000)
    one, two = Drawn(WHITE, 2 * numbers), Drawn(WHITE, 2 * numbers + 1)
    pairs = {"one": Trials(one, blind, two), "turned": Trials(two, -blind, one)}
    found = {who: observers.analyse_trials(of.stimuli, of.responses, second=of.second) for who, of in pairs.items()}
    np.testing.assert_allclose(found["one"].maps["choice"].images, found["turned"].maps["choice"].images, atol=1e-6)
    agreed = observers.agreement(found)
    assert np.abs(agreed.correlation).max() < 3 / np.sqrt(64)


def test_copies_of_a_file_in_folders_of_their_own_are_one_stimulus(tmp_path: Path) -> None:
    people, shown = {}, noise.gaussian((8, 8, 1), 0.5, 0.1)
    for i in range(3):
        export_stimuli(tmp_path / f"P{i}", shown, 60)
        files = [tmp_path / f"P{i}" / f"{number:06d}.png" for number in range(60)]
        people[f"P{i}"] = Trials(files, np.random.default_rng(i).integers(0, 2, 60))
    draws = [each._replace(stimuli=Drawn(shown, np.arange(60))) for each in people.values()]
    np.testing.assert_allclose(
        observers.shared_noise(list(people.values())), observers.shared_noise(draws), rtol=1e-6, atol=1e-12
    )


def test_intraclass_correlations_are_those_of_shrout_and_fleiss() -> None:
    ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]  # their table 2
    assert np.round(statistics.intraclass_correlation(ratings), 2).tolist() == [0.29, 0.62, 0.91]
    with pytest.raises(InputError, match="2 or more"):
        statistics.intraclass_correlation([[1.0], [2.0]])


def test_a_network_answers_the_trials_that_people_do() -> None:
    weights = RANDOM.standard_normal((64, 4)).astype(np.float32)

    def network(images: jax.Array) -> jax.Array:
        return (images.reshape(len(images), -1) - 0.5) @ weights

    x = noise_images(500)
    answers = observers.answer(observers.network_observer(network, 2), x)
    np.testing.assert_array_equal(answers, np.argmax(network(jnp.asarray(x)), axis=1) == 2)
    two = observers.answer(observers.network_observer(network, 2), x[:250], x[250:])
    assert set(two.tolist()) == {-1, 1}


def test_noise_in_squares_is_shown_in_squares_and_mapped_in_them(tmp_path: Path) -> None:
    squares, base = noise.coarse(noise.gaussian((12, 12, 1), 0.5, 0.1), 3), np.full((12, 12, 1), 0.4)
    export_stimuli(tmp_path, squares, 200, seed=5, base=base)
    draws = np.asarray(draw_samples(squares, 200, seed=5))  # as a network is shown them
    read = observers.read_image(tmp_path / "000009.png")
    np.testing.assert_allclose(read, np.clip(draws[9] - 0.1, 0, 1), atol=0.5001 / 255)
    lines = [f"{i},{int(draws[i, 4, 7, 0] > 0.5)}" for i in range(200)]
    (tmp_path / "answers.csv").write_text("\n".join(["stimulus,response", *lines]))
    trials, shown = observers.found_stimuli(tmp_path / "answers.csv", observers.read_trials(tmp_path / "answers.csv"))
    found = observers.analyse_group(trials, shown, permutations=19)
    assert found.map.images.shape == (1, 4, 4, 1)
    inside = found.findings.significant["pixels"]
    assert inside is not None
    assert np.argwhere(inside).tolist() == [[0, 1, 2, 0]]
    assert observers.on_base(found.map.images[0], base).shape == (12, 12, 1)
    seen = observers.answer(lambda images: images[:, 4, 7, 0] - 0.5, trials["participant"].stimuli)
    np.testing.assert_array_equal(seen, trials["participant"].responses)
    with pytest.raises(InputError, match="expected the same, or a multiple"):
        observers.on_base(found.map.images[0], base[:10])


@pytest.mark.parametrize(("bits", "design"), [(8, "yes_no"), (16, "2afc"), (8, "inverted")])
def test_exported_files_are_the_draws_rounded_and_clipped(tmp_path: Path, bits: int, design: str) -> None:
    wide = noise.gaussian((6, 5, 1), 0.5, 0.4)
    folder, base = tmp_path / "stimuli", np.full((6, 5, 1), 0.3) if design == "inverted" else None
    written = export_stimuli(folder, wide, 30, seed=2, design=design, bits=bits, base=base)
    draws = np.asarray(draw_samples(wide, 60, seed=2), np.float64)[: 60 if design == "2afc" else 30]
    shown = draws if base is None else base + draws - 0.5
    read = np.stack([observers.read_image(folder / f"{i:06d}.png") for i in range(len(draws))])
    np.testing.assert_allclose(read, np.clip(shown, 0, 1), atol=0.5001 / (2**bits - 1))
    assert written.files == (60 if design != "yes_no" else 30)
    if base is None:
        assert written.clipped == pytest.approx(np.mean((draws < 0) | (draws > 1)), abs=1e-9)
        inside = np.sqrt(np.mean((draws > 0) & (draws < 1)))
        assert written.rounding == pytest.approx(inside / (2**bits - 1) / np.sqrt(12), rel=0.1)
    else:
        inverted = observers.read_image(folder / "000007_inverted.png")
        np.testing.assert_allclose(inverted, np.clip(0.6 - shown[7], 0, 1), atol=0.5001 / 255)
    table = list(csv.reader((folder / "trials.csv").read_text().splitlines()))
    assert len(table) == 31
    assert table[4] == (["3", "6", "7", ""] if design == "2afc" else ["3", "3", ""])
    with pytest.raises(InputError, match="is there already"):
        export_stimuli(folder, wide, 30)


def test_analyses_of_people_are_shown_saved_and_read_again(tmp_path: Path) -> None:
    found = analysed(noise_images(200), RANDOM.integers(0, 2, 200))
    assert "200" in found.summary()
    for kind in ("maps", "significance"):
        assert found.figure(kind).get_size_inches().min() > 1
    found.save(tmp_path / "one.npz")
    again = load(tmp_path / "one.npz")
    np.testing.assert_array_equal(again.maps["choice"].images, found.maps["choice"].images)
    assert again.findings("choice", permutations=19).info_val == found.findings("choice", permutations=19).info_val


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"responses": [1, 0, 2]}, "responses have the values 0, 1, 2: expected 1 and 0"),
        ({"responses": [1, 0, 1], "second": noise_images(3, 1)}, "expected 1 .first. and -1 .second."),
        ({"responses": [1, 0]}, "responses of shape .2,. to 3 trials"),
        ({"responses": [1, 0, 1], "classes": [1]}, "classes of shape .1,. for 3 trials"),
        ({"responses": [1, -1, 1], "second": noise_images(2)}, "3 first stimuli .* and 2 second"),
        ({"stimuli": noise_images(3)[0], "responses": [1, 0, 1]}, "expected an array .trials, height"),
        ({"stimuli": np.zeros((3, 8, 8, 1), int), "responses": [1, 0, 1]}, "stimuli of type int64"),
        ({"stimuli": [], "responses": []}, "there are no stimuli"),
        ({"stimuli": Drawn(WHITE, [-1, 2, 3]), "responses": [1, 0, 1]}, "expected whole numbers"),
        ({"stimuli": Drawn(WHITE, [1, 2, 1]), "responses": [1, 0, 1]}, "draw 1 is in 2 trials"),
        (
            {"stimuli": Drawn(WHITE, [0, 1, 2]), "responses": [1, -1, 1], "second": Drawn(WHITE, [3, 4, 1])},
            "draw 1 is in 2 trials",
        ),
        ({"stimuli": np.full((3, 8, 8, 1), np.nan), "responses": [1, 0, 1]}, "NaN or infinite"),
        ({"stimuli": ["a.png", "b.png", "c.png"], "responses": [1, 0, 1]}, "a.png is not there"),
    ],
)
def test_trials_that_cannot_be_used_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        moments_from_trials(**({"stimuli": noise_images(3)} | arguments))


def test_files_that_are_no_images_of_one_size_or_hold_the_same_image_are_refused(tmp_path: Path) -> None:
    for name, image in (("a", noise_images(1)[0]), ("b", noise_images(1, 1)[0]), ("c", noise_images(1)[0])):
        Image.fromarray(np.uint8(255 * np.clip(image[..., 0], 0, 1))).save(tmp_path / f"{name}.png")
    Image.new("L", (9, 8)).save(tmp_path / "wide.png")
    (tmp_path / "text.png").write_text("no image")
    for names, said in (
        (["a", "c", "b"], r"a\.png and .*c\.png hold the same image"),
        (["a", "b", "a"], r"a\.png is shown twice"),
        (["a", "b", "wide"], r"wide\.png has 8x9x1 pixels, .*a\.png 8x8x1 pixels"),
        (["a", "b", "text"], r"text\.png cannot be read as an image"),
    ):
        with pytest.raises(InputError, match=said):
            moments_from_trials([tmp_path / f"{name}.png" for name in names], [1, 0, 1])


def test_two_stimuli_with_the_noise_of_one_are_refused() -> None:
    of_one = noise.gaussian((5, 5, 1), 0.5, 0.1)
    first, second = (observers.Drawn(of_one, np.arange(200) + start, 0) for start in (0, 200))
    answers = np.resize([1, -1], 200)
    given = {"A": observers.Trials(first, answers, second)}
    with pytest.raises(InputError, match="of their difference"):
        observers.analyse_group(given, of_one, permutations=19)
    of_both = observers.noise_of(first, second)
    assert observers.analyse_group(given, of_both, permutations=19).map.images.count() == 25
