"""What does a network see in images that a generator makes from random codes?

An autoencoder or a VAE is trained on the data set; its decodings of random codes are the noise. For each class both the
image and the code are averaged: the mean image blurs what differs within a class, while the decoding of the mean code
is again one image.

  python -m experiments.decoded_noise                                                 embedded digits, no download
  python -m experiments.decoded_noise --dataset=mnist --noise=autoencoder:standard    the authors' codes (1912.12106)

Writes to --out_dir: mean_codes.png, noise_examples.png, means.npz, metrics.json, config.json, log.jsonl and state/ (to
go on from).
"""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from experiments import launch, shared
from experiments.settings import LoopSettings, setting
from wna_jax import figures, maps, noise, responses, reverse_correlate, templates
from wna_jax.runs.progress import in_parts


class Settings(LoopSettings):
    """The settings of one run."""

    noise: str = setting(
        "vae", f"The generator and its codes: {', '.join(noise.DECODED)}.", choices=noise.DECODED, kind="decoded noise"
    )


def run(settings: Settings, report: launch.Report = launch.silent) -> launch.Result:
    """Decoded images and their codes through the network, averaged by its decisions."""
    dataset = shared.load_classes(settings, report)
    trained = shared.trained_network(settings, dataset, report)
    decoder = noise.decoder(settings.noise, dataset, Path(settings.checkpoint_dir), settings.retrain, report)
    respond, moments = responses.of_classifier(trained.network, ["decision"]), []
    kinds = [("images", noise.decoded(decoder)), ("codes", noise.codes(decoder))]
    for (part, stimulus), tell in in_parts(report, kinds, "noise"):
        options = shared.loop_options(settings, dataset, trained.network, tell, part)
        moments.append(reverse_correlate(stimulus, respond, **options)["decision"])
    image, code = moments  # of one seed: the same samples twice
    counts, names = image.count, dataset.class_names
    mean_images = maps.mean_images(image)
    mean_codes = maps.mean_images(code).reshape(len(names), -1)
    decodings = np.asarray(decoder.decode(jnp.asarray(mean_codes.filled(0), jnp.float32)))
    shown = {"mean_image": mean_images, "decoded_mean_code": np.ma.masked_array(decodings, mean_images.mask)}
    feedback = {part: templates.feed_back(trained.network, images, stretch=False) for part, images in shown.items()}
    empty = np.flatnonzero(counts == 0).tolist()
    metrics = {
        "network_test_accuracy": trained.test_accuracy,
        "num_samples": settings.num_samples,
        "classes": list(names),
        "counts": counts.tolist(),
        "empty_classes": empty,
        "feedback": {part: templates.as_json(answers) for part, answers in feedback.items()},
    }
    what = shared.title_of(settings, dataset)

    def draw() -> launch.Drawn:
        rows = np.stack([dataset.class_means, *(images.filled(1) for images in shown.values())])
        captions = [[f"{name}: {count:,}" for name, count in zip(names, counts, strict=True)]]
        captions += [templates.captions(answers, names, "no sample") for answers in feedback.values()]
        title = f"{settings.num_samples:,} images of {settings.noise} noise as {what} sorts them; below: its answers"
        labels = ["training mean,\nsamples called so", "mean of\nthe images", "decoding of\nthe mean code"]
        yield "mean_codes.png", figures.gallery(rows, labels, title, captions)
        title, codes = f"{settings.noise} noise, and what {what} calls it", noise.codes(decoder)
        yield "noise_examples.png", shared.noise_examples(codes, trained.network, dataset, settings.seed, title)

    summary = [
        f"called most     {names[int(counts.argmax())]} ({figures.percent(counts.max() / counts.sum())})",
        f"never called    {', '.join(names[k] for k in empty) or 'none'}",
    ]
    for part, answers in feedback.items():
        right, asked = templates.called_right(answers)
        summary.append(f"{part:17s} {right} of {asked} called by their class")
    arrays = {"count": counts, "image_sum": image.sum, "code_sum": code.sum}
    return launch.Result(metrics, summary, draw, {"means.npz": arrays})


if __name__ == "__main__":
    launch.main(run, Settings)
