from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import insertion_deletion, launch, shared
from experiments.insertion_deletion import Settings
from wna_jax import noise
from wna_jax.studies import local

pytestmark = pytest.mark.slow  # whole experiments


@pytest.fixture(scope="module")
def settings(network_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    out = str(tmp_path_factory.mktemp("insertion_deletion"))
    return Settings(**network_settings, out_dir=out, num_images=6, num_passes=1_100, contrast=0.5)


def test_methods_beat_a_random_order_and_more_images_go_on_from_the_state(settings: Settings, tmp_path: Path) -> None:
    few = launch.execute(insertion_deletion.run, settings)
    scores = few.metrics["scores"]
    assert len(scores) == 12
    for method in ("classification image, logit", "integrated gradients, logit", "occlusion, logit"):
        assert scores[method]["deletion"]["mean"] < scores["random order"]["deletion"]["mean"]
        assert scores[method]["insertion"]["mean"] > scores["random order"]["insertion"]["mean"]
    assert scores["classification image, logit"]["deletion"]["minus_first_interval_95"] == [0, 0]
    more = Settings(**vars(settings) | {"num_images": 8})
    further = insertion_deletion.run(more)
    anew = insertion_deletion.run(Settings(**vars(more) | {"out_dir": str(tmp_path)}))
    assert further.metrics == anew.metrics
    for name in ("deletion", "insertion"):
        np.testing.assert_array_equal(further.arrays["scores.npz"][name], anew.arrays["scores.npz"][name])
    fewer = insertion_deletion.run(Settings(**vars(settings) | {"num_images": 3}))
    np.testing.assert_array_equal(fewer.arrays["scores.npz"]["deletion"], few.arrays["scores.npz"]["deletion"][:3])
    assert (settings.folder / "curves.png").stat().st_size > 0


def test_the_usual_contrast_is_a_median_threshold(settings: Settings) -> None:
    dataset = shared.load_classes(settings, launch.silent)
    network = shared.trained_network(settings, dataset, launch.silent).network
    contrast = insertion_deletion.usual_contrast(settings, network, dataset, dataset.test_images[:2])
    unit, shown = noise.gaussian(dataset.image_shape, 0, 1), dataset.validation.images[:20] / np.float32(255)
    each = [local.threshold_contrast(network, picture, unit, num_draws=200) for picture in shown]
    assert contrast == np.median([of.at if of else local.MOST_CONTRAST for of in each])
    assert 0.05 < contrast < local.MOST_CONTRAST
