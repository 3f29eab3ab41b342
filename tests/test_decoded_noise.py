from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from experiments import decoded_noise, launch
from experiments.launch import Result
from wna_jax.networks import autoencoders
from wna_jax.runs.errors import InputError


@pytest.fixture(scope="module")
def settings(
    network_settings: dict[str, Any], small_digits: str, tmp_path_factory: pytest.TempPathFactory
) -> decoded_noise.Settings:
    own = network_settings | {"dataset": small_digits, "out_dir": str(tmp_path_factory.mktemp("out"))}
    return decoded_noise.Settings(**own, noise="autoencoder", num_samples=2000)


@pytest.fixture(scope="module")
def result(settings: decoded_noise.Settings) -> Result:
    usual = autoencoders.default_spec
    with pytest.MonkeyPatch.context() as patch:  # a fifth of the usual epochs: enough for images that look like digits
        patch.setattr(autoencoders, "default_spec", lambda *given: replace(usual(*given), epochs=15))
        return launch.execute(decoded_noise.run, settings)


@pytest.mark.slow
def test_images_and_codes_of_the_same_samples_are_averaged(result: Result) -> None:
    metrics = result.metrics
    assert sum(metrics["counts"]) == 2000
    assert set(metrics["feedback"]) == {"mean_image", "decoded_mean_code"}
    for answers in metrics["feedback"].values():
        assert [k for k, answer in enumerate(answers) if answer is None] == metrics["empty_classes"]
    # Images decoded from codes like those of the data are called by most classes, and their means by their own.
    assert len(metrics["empty_classes"]) <= 2
    right = sum(answer["correct"] for answer in metrics["feedback"]["mean_image"] if answer)
    assert right >= 0.7 * (10 - len(metrics["empty_classes"]))


@pytest.mark.slow
def test_files_are_whole(settings: decoded_noise.Settings, result: Result) -> None:
    for name in ("mean_codes.png", "noise_examples.png"):
        with Image.open(settings.folder / name) as image:
            assert min(image.size) > 100
    assert {"metrics.json", "means.npz", "config.json", "log.jsonl"} <= {
        path.name for path in settings.folder.iterdir()
    }
    assert not list(settings.folder.glob(".partial*"))


def test_noise_that_is_not_decoded_is_refused() -> None:
    with pytest.raises(InputError, match="unknown decoded noise 'matched'"):
        decoded_noise.Settings(noise="matched")
