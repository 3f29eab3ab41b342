import json
from pathlib import Path

from PIL import Image

from experiments import gabor_noise


def test_gabor_components_hold_most_of_the_images(tmp_path: Path) -> None:
    gabor_noise.run(gabor_noise.Settings("digits", None, 0, str(tmp_path)))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["components"] == [250]
    assert 0.9 < metrics["explained_variance"][0] < 1
    assert metrics["reconstruction_error"]["share_of_variance"] < 0.2
    with Image.open(tmp_path / "gabor_noise.png") as image:
        assert min(image.size) > 100
