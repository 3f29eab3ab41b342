"""How much of the images do Gabor atoms and their principal components hold, and what does their noise look like?

  python -m experiments.gabor_noise                      embedded digits, no download
  python -m experiments.gabor_noise --dataset=cifar10    each channel by itself

Writes to --out_dir: gabor_noise.png (images, their reconstructions, noise), metrics.json, config.json and log.jsonl.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments import common
from wna_jax import data, figures
from wna_jax.noise import gabor
from wna_jax.reverse_correlation import draw_samples

_SHOWN = 10


@dataclass(frozen=True)
class Settings:
    """The flags of one run, as a value."""

    dataset: str
    data_dir: str | None
    seed: int
    out_dir: str


def run(settings: Settings) -> None:
    """One run of the experiment: settings -> files in settings.out_dir."""
    out_dir = common.open_output(settings)
    with common.reporting(out_dir) as report:
        dataset = data.load(settings.dataset, settings.data_dir, report)
    train, held_out = dataset.train.images, dataset.validation.images[:1000]
    channels = range(dataset.image_shape[2])
    fitted = [gabor.fit(train[..., c]) for c in channels]
    filtered = [gabor.fit_filtered(train[: gabor.FILTERED_IMAGES, ..., c]) for c in channels]
    rebuilt = np.stack(
        [gabor.reconstruct(part, held_out[..., c], train[..., c]) for c, part in zip(channels, fitted, strict=True)],
        axis=-1,
    )
    difference = (rebuilt - held_out).reshape(len(held_out), -1)
    metrics: dict[str, Any] = {
        "components": [len(part.basis) for part in fitted],
        "explained_variance": [part.explained_variance for part in fitted],
        "explained_variance_of_filter_responses": [part.explained_variance for part in filtered],
        "reconstruction_error": {
            "images": len(held_out),
            "mean_norm": float(np.linalg.norm(difference, axis=1).mean()),
            "share_of_variance": float((difference**2).sum() / ((held_out - train.mean(axis=0)) ** 2).sum()),
        },
    }
    common.write_json(out_dir / "metrics.json", metrics)
    common.write_config(out_dir, settings)
    noises = [
        gabor.of_principal_images("gabor_pca", dataset, fitted),
        gabor.of_principal_images("gabor_pca:no_mean", dataset, fitted, keep_mean=False),
        gabor.of_principal_images("gabor_filtered", dataset, filtered),
    ]
    drawn = [np.asarray(draw_samples(stimulus, _SHOWN, seed=settings.seed)) for stimulus in noises]
    rows = np.stack([held_out[:_SHOWN] / 255, rebuilt[:_SHOWN] / 255, *drawn])
    shares = ", ".join(f"{share:.3f}" for share in metrics["explained_variance"])
    title = (
        f"{dataset.title}: {len(fitted[0].basis)} principal components of Gabor weights hold {shares} of their variance"
    )
    labels = ["held-out image", "reconstruction", *(stimulus.name for stimulus in noises)]
    common.save(figures.gallery(rows, labels, title), out_dir / "gabor_noise.png")
    error = metrics["reconstruction_error"]
    print(f"explained variance  {shares} of the weights")
    print(f"reconstruction      {error['share_of_variance']:.2%} of held-out variance is lost")
    print(f"mean |error|        {error['mean_norm']:.0f} of an image, on the scale 0 to 255")
    print(f"look at             {out_dir / 'gabor_noise.png'}")


if __name__ == "__main__":
    common.main(run, Settings)
