"""How much of the images do Gabor atoms and their principal components hold, and what does their noise look like?

  python -m experiments.gabor_noise                      embedded digits, no download
  python -m experiments.gabor_noise --dataset=cifar10    each colour channel separately

Writes to --out_dir: gabor_noise.png (images, their reconstructions, noise), metrics.json, config.json and log.jsonl.
"""

import numpy as np

from experiments import launch, shared
from experiments.settings import DataSettings, setting
from wna_jax import correlation, figures
from wna_jax.noise import gabor

_SHOWN = 10


class Settings(DataSettings):
    """The settings of one run."""

    seed: int = setting(0, "Random seed of the noise.", at_least=0, at_most=2**32 - 1)


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Fits the components, reconstructs held-out images, and draws noise."""
    dataset = shared.load_data(settings, report)
    train, held_out = dataset.train.images, dataset.validation.images[:1000]
    fitted, filtered = gabor.fit_channels(dataset), gabor.fit_filtered_channels(dataset)
    channels = [gabor.reconstruct(part, held_out[..., c], train[..., c]) for c, part in enumerate(fitted)]
    rebuilt = np.stack(channels, axis=-1)
    difference = (rebuilt - held_out).reshape(len(held_out), -1)
    norm = float(np.linalg.norm(difference, axis=1).mean())
    lost = float((difference**2).sum() / ((held_out - train.mean(axis=0)) ** 2).sum())
    explained = [part.explained_variance for part in fitted]
    metrics = {
        "components": [len(part.basis) for part in fitted],
        "explained_variance": explained,
        "explained_variance_of_filter_responses": [part.explained_variance for part in filtered],
        "reconstruction_error": {"images": len(held_out), "mean_norm": norm, "share_of_variance": lost},
    }
    shares = ", ".join(f"{share:.3f}" for share in explained)

    def draw() -> launch.Drawn:
        noises = [
            gabor.of_principal_images("gabor_pca", dataset, fitted),
            gabor.of_principal_images("gabor_pca:no_mean", dataset, fitted, keep_mean=False),
            gabor.of_principal_images("gabor_filtered", dataset, filtered),
        ]
        drawn = [np.asarray(correlation.draw_samples(stimulus, _SHOWN, seed=settings.seed)) for stimulus in noises]
        labels = ["held-out image", "reconstruction", *(stimulus.name for stimulus in noises)]
        count = len(fitted[0].basis)
        title = f"{dataset.title}: {count} principal components of Gabor weights hold {shares} of their variance"
        rows = np.stack([held_out[:_SHOWN] / 255, rebuilt[:_SHOWN] / 255, *drawn])
        yield "gabor_noise.png", figures.gallery(rows, labels, title)

    summary = [
        f"explained variance  {shares} of the weights",
        f"reconstruction      {lost:.2%} of held-out variance is lost",
        f"mean |error|        {norm:.0f} of an image, on the scale 0 to 255",
    ]
    return launch.Result(metrics, summary, draw)


if __name__ == "__main__":
    launch.main(run, Settings)
