"""The main job on handwriting that comes with scikit-learn, in a minute: python -m wna_jax [FOLDER].

It shows that an installation works, and what comes of it: a network learns to read digits, is shown 100,000 images of
noise, and FOLDER/report.html shows what it sees in them.
"""

import sys

import wna_jax
from wna_jax import data, networks
from wna_jax.networks import training
from wna_jax.runs import progress


def main(folder: str) -> None:
    """Trains the paper's network on digits, maps it, and saves what was found."""
    digits = data.load("digits")
    spec = training.TrainingSpec(digits.name, digits.fingerprint, "paper_cnn")
    with progress.by_default(None) as told:
        trained = training.fit(spec, digits, told)
    network = networks.Network(networks.create(spec.model, digits.image_shape, 10), trained.parameters)
    found = wna_jax.analyse(network, dataset=digits, num_samples=100_000, name="the paper's network, on digits,")
    print(found.summary())
    print(f"look at         {found.save(folder)}")


if __name__ == "__main__":
    if len(sys.argv) > 2 or sys.argv[1:2] in (["-h"], ["--help"]):
        print(__doc__)
    else:
        main(*sys.argv[1:] or ["wna_jax_demo"])
