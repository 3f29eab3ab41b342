"""What does a network see in images that a generator makes of random codes?

An autoencoder or a VAE is trained on the data set; its decodings of random codes are the noise. Averaged is, for each
class, the image and the code: the mean image blurs what differs within a class, the decoding of the mean code is one
image again.

  python -m experiments.decoded_noise                                                 embedded digits, no download
  python -m experiments.decoded_noise --dataset=mnist --noise=autoencoder:standard    the authors' codes (1912.12106)

Writes to --out_dir: mean_codes.png, noise_examples.png, means.npz, metrics.json, config.json and log.jsonl.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from experiments import common
from wna_jax import data, figures, maps, noise, responses
from wna_jax.errors import unknown_name
from wna_jax.reverse_correlation import draw_samples, reverse_correlate

_EXAMPLES = 10


@dataclass(frozen=True)
class Settings(common.NetworkSettings):
    """The flags of one run, as a value."""

    DEFAULTS: ClassVar = {"noise": "vae"}

    noise: str
    num_samples: int
    batch_size: int | None
    seed: int


def run(settings: Settings) -> None:
    """One run of the experiment: settings -> files in settings.out_dir."""
    out_dir = common.open_output(settings)
    if settings.noise not in noise.DECODED:
        raise unknown_name("decoded noise", settings.noise, noise.DECODED)
    with common.reporting(out_dir) as report:
        dataset = common.classes_to_tell(settings, report)
        network = common.trained_network(settings, dataset, report)
        decoder = noise.decoder(settings.noise, dataset, Path(settings.checkpoint_dir), settings.retrain, report)
        respond = responses.of_classifier(network.logits_function, ["decision"])
        image, code = (  # one seed: the same samples twice
            reverse_correlate(
                stimulus,
                respond,
                settings.num_samples,
                seed=settings.seed,
                batch_size=settings.batch_size,
                state_dir=out_dir / "state" / part,
                identity={"noise": settings.noise, "data": dataset.fingerprint, "network": network.fingerprint},
                report=report,
            )["decision"]
            for part, stimulus in (("images", noise.decoded(decoder)), ("codes", noise.codes(decoder)))
        )
    counts = image.count
    mean_images = maps.mean_images(image)
    mean_codes = maps.mean_images(code).reshape(dataset.num_classes, -1)
    decodings = np.asarray(decoder.decode(jnp.asarray(mean_codes.filled(0), jnp.float32)))
    there = counts > 0
    answers = {
        name: _answers(network, np.where(there[:, None, None, None], images, 0))
        for name, images in (("mean_image", mean_images.filled(0)), ("decoded_mean_code", decodings))
    }
    metrics = {
        "network_test_accuracy": network.metrics["test_accuracy"],
        "num_samples": settings.num_samples,
        "classes": list(dataset.class_names),
        "counts": counts.tolist(),
        "empty_classes": np.flatnonzero(~there).tolist(),
        "feedback": {
            name: [
                {"predicted": int(p.argmax()), "confidence": float(p.max()), "correct": bool(p.argmax() == k)}
                if there[k]
                else None
                for k, p in enumerate(probabilities)
            ]
            for name, probabilities in answers.items()
        },
    }
    common.write_json(out_dir / "metrics.json", metrics)
    common.write_config(out_dir, settings)
    common.write_arrays(out_dir / "means.npz", count=counts, image_sum=image.sum, code_sum=code.sum)
    _draw(settings, out_dir, dataset, network, decoder, metrics, mean_images.filled(1), decodings)
    print(f"called most     {dataset.class_names[int(counts.argmax())]} ({counts.max() / counts.sum():.1%})")
    print(f"never called    {', '.join(dataset.class_names[k] for k in metrics['empty_classes']) or 'none'}")
    for name, given in metrics["feedback"].items():
        print(
            f"{name:17s} {sum(answer['correct'] for answer in given if answer)} of {there.sum()} called by their class"
        )
    print(f"look at         {out_dir / 'mean_codes.png'}")


def _answers(network: common.Network, images: np.ndarray) -> np.ndarray:
    return np.asarray(jax.nn.softmax(network.logits_function(jnp.asarray(images, jnp.float32))))


def _draw(
    settings: Settings,
    out_dir: Path,
    dataset: data.Dataset,
    network: common.Network,
    decoder: noise.Decoder,
    metrics: dict,
    mean_images: np.ndarray,
    decodings: np.ndarray,
) -> None:
    what = f"{settings.model} on {dataset.title}"
    by_class = [dataset.train.images[dataset.train.labels == k] for k in range(dataset.num_classes)]
    training = np.stack([members.mean(axis=0) / 255 for members in by_class])
    there = np.array(metrics["counts"])[:, None, None, None] > 0
    names = dataset.class_names
    captions = [[f"{name}: {count:,}" for name, count in zip(names, metrics["counts"], strict=True)]]
    for given in metrics["feedback"].values():
        captions.append([_caption(answer, names) for answer in given])
    rows = np.stack([training, np.where(there, mean_images, 1), np.where(there, decodings, 1)])
    title = f"{settings.num_samples:,} images of {settings.noise} noise as {what} sorts them; below: its answers"
    labels = ["training mean,\nsamples called so", "mean of\nthe images", "decoding of\nthe mean code"]
    common.save(figures.gallery(rows, labels, title, captions), out_dir / "mean_codes.png")

    samples = draw_samples(noise.codes(decoder), _EXAMPLES, seed=settings.seed)
    answers = _answers(network, np.asarray(samples))
    captions = [[f"{dataset.class_names[int(p.argmax())]} {float(p.max()):.2f}" for p in answers]]
    examples = figures.gallery(
        np.asarray(samples)[None], [""], f"{settings.noise} noise, and what {what} calls it", captions
    )
    common.save(examples, out_dir / "noise_examples.png")


def _caption(answer: dict | None, names: tuple[str, ...]) -> str:
    if answer is None:
        return "no sample"
    return f"{'✓' if answer['correct'] else '✗'} {names[answer['predicted']]} {answer['confidence']:.2f}"


if __name__ == "__main__":
    common.main(run, Settings)
