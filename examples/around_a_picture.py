"""One picture and one network: which pixels turn the answer, and which way?

  python examples/around_a_picture.py [FOLDER]

Trains a small network on scikit-learn's digits, shows it one test image in noise, and averages the noise by the answer.
Writes the picture of the maps, the numbers, and `maps.npz` to a folder (by default runs/around_a_picture).
"""

import sys

import numpy as np

import wna_jax
from wna_jax import figures, noise
from wna_jax.networks import Network, models, training
from wna_jax.studies import attributions, local

FOLDER = sys.argv[1] if len(sys.argv) > 1 else "runs/around_a_picture"

# 1. A network (any function from images to logits will do) and a picture, float32 [H, W, C] in [0, 1].

digits = wna_jax.data.load("digits")
trained = training.fit(training.TrainingSpec("digits", digits.fingerprint, "paper_cnn", epochs=8), digits)
network = Network(models.create("paper_cnn", digits.image_shape, digits.num_classes), trained.parameters)
picture = digits.test_images[5]

# 2. How strong must the noise be? In too little the answer never changes, in too much the picture is lost. At its
#    threshold the network still gives its answer in three of four presentations.

threshold = local.threshold_contrast(network, picture, noise.gaussian(picture.shape, 0, 1), share=0.75)
print(f"contrast        {threshold.at:.3f} [{threshold.low:.3f}, {threshold.high:.3f}]")
stimulus = noise.around(picture, noise.gaussian(picture.shape, 0, threshold.at))

# 3. The classes at stake: the answer, and the most frequent other answer in this noise. Their maps, with errors, tests
#    and reliability, come from the same call as those of noise alone.

own, rival = local.at_stake(network, picture, stimulus)
found = wna_jax.analyse(network, stimulus, 50_000, dataset=digits, classes=[own, rival], name=f"paper_cnn at a {own}")
print(found.summary())
found.save(FOLDER)
print(f"look at         {FOLDER}/classification_images.png")

# 4. Other methods on the same number of passes. A map's deletion score says how fast the answer is lost while the most
#    important pixels are taken away (here: made black), its insertion score how fast it comes back.

black = np.zeros_like(picture)
effects = local.contributions(network, picture, own, black, threshold.at, 3_000)
respond = local.probability_of(network, own)
importance = np.stack([effect.filled(0) for effect in effects.values()])
scores = attributions.deletion_and_insertion(respond, picture, black, importance).scores
for i, name in enumerate(effects):
    print(f"{name:36s}deletion {scores['deletion'][i]:.3f}, insertion {scores['insertion'][i]:.3f}")
rows = {
    "": [
        figures.Panel(picture, f"a {own}"),
        *(
            figures.Panel(of[..., None] / np.abs(of).max(), name.replace(", ", "\n"), True)
            for name, of in effects.items()
        ),
    ]
}
figures.save(
    figures.panels(rows, f"What each pixel contributes to the answer {own}", units={"": "of the largest"}),
    f"{FOLDER}/methods.png",
)
