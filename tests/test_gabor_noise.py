from pathlib import Path

import pytest
from PIL import Image

from experiments import gabor_noise, launch


@pytest.mark.slow
def test_gabor_components_hold_most_of_the_images(small_digits: str, tmp_path: Path) -> None:
    result = launch.execute(gabor_noise.run, gabor_noise.Settings(dataset=small_digits, out_dir=str(tmp_path)))
    assert result.metrics["components"] == [250]
    assert 0.9 < result.metrics["explained_variance"][0] < 1
    assert result.metrics["reconstruction_error"]["share_of_variance"] < 0.2
    with Image.open(tmp_path / "gabor_noise.png") as image:
        assert min(image.size) > 100
    assert (tmp_path / "metrics.json").exists()
    assert not list(tmp_path.glob(".partial*"))
