import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from experiments import decoded_noise
from wna_jax.errors import InputError


def test_images_and_codes_of_the_same_samples_are_averaged(tmp_path: Path) -> None:
    settings = decoded_noise.Settings(
        dataset="digits",
        data_dir=None,
        model="logistic",
        epochs=5,
        train_seed=0,
        out_dir=str(tmp_path),
        checkpoint_dir=str(tmp_path / "checkpoints"),
        retrain=False,
        noise="autoencoder",
        num_samples=2000,
        batch_size=None,
        seed=0,
    )
    decoded_noise.run(settings)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert sum(metrics["counts"]) == 2000
    for answers in metrics["feedback"].values():
        assert [k for k, answer in enumerate(answers) if answer is None] == metrics["empty_classes"]
    # Images decoded from codes like those of the data are called by most classes, and their means by their own.
    assert len(metrics["empty_classes"]) <= 2
    right = sum(answer["correct"] for answer in metrics["feedback"]["mean_image"] if answer)
    assert right >= 0.7 * (10 - len(metrics["empty_classes"]))
    with Image.open(tmp_path / "mean_codes.png") as image:
        assert min(image.size) > 100
    with pytest.raises(InputError, match="unknown decoded noise 'matched'"):
        decoded_noise.run(replace(settings, noise="matched"))
