"""Around a picture: which of its pixels turn a network's answer, and which way?

  python examples/around_a_picture.py [FOLDER]

A network calls this picture a 6. What would have to be brighter or darker for another answer? The picture is shown in
noise, and the noise is averaged by the answer: this takes no gradient, and the maps come with errors and tests. They,
the numbers and `maps.npz` are written to a folder (by default runs/around_a_picture).
"""

import sys

import numpy as np

import wna_jax
from wna_jax import figures, noise
from wna_jax.networks import Network, models, training
from wna_jax.studies import attributions, local

FOLDER = sys.argv[1] if len(sys.argv) > 1 else "runs/around_a_picture"

# 1. A network and a picture. Any function from images to logits will do; the picture is float32 [H, W, C] in [0, 1].

digits = wna_jax.data.load("digits")
trained = training.fit(training.TrainingSpec("digits", digits.fingerprint, "paper_cnn", epochs=8), digits)
network = Network(models.create("paper_cnn", digits.image_shape, digits.num_classes), trained.parameters)
picture = digits.test_images[5]

# 2. How strong must the noise be? In too little the answer never changes, in too much the picture is lost. At this
# contrast the network still gives its answer in three of four presentations.

threshold = local.threshold_contrast(network, picture, noise.gaussian(picture.shape, 0, 1), share=0.75)
print(f"contrast        {threshold.at:.3f} [{threshold.low:.3f}, {threshold.high:.3f}]")
stimulus = noise.around(picture, noise.gaussian(picture.shape, 0, threshold.at))

# 3. The maps of the two classes at stake. These are the answer, and the most frequent other answer in this noise. Their
# maps come from the same call as those of noise alone.

own, rival = local.at_stake(network, picture, stimulus)
found = wna_jax.analyse(network, stimulus, 50_000, dataset=digits, classes=[own, rival], name=f"paper_cnn at a {own}")
print(found.summary())
found.save(FOLDER)
print(f"look at         {FOLDER}/classification_images.png")

# 4. What do other methods say? They get the same number of passes through the network. A map's deletion score says how
# fast the answer is lost while its most important pixels are made black (low is good), its insertion score how fast it
# comes back (high is good).

black = np.zeros_like(picture)
effects = local.contributions(network, picture, own, black, threshold.at, 3_000)
respond = local.probability_of(network, own)
importance = np.stack([effect.filled(0) for effect in effects.values()])
scores = attributions.deletion_and_insertion(respond, picture, black, importance).scores
for i, name in enumerate(effects):
    print(f"{name:36s}deletion {scores['deletion'][i]:.3f}, insertion {scores['insertion'][i]:.3f}")
rows = {}
for answer in ("probability", "logit"):
    of_answer = {name.partition(",")[0]: of[..., None] for name, of in effects.items() if name.endswith(answer)}
    shown = [figures.Panel(of / np.abs(of).max(), name, is_map=True) for name, of in of_answer.items()]
    rows[answer] = [figures.Panel(picture, f"a {own}"), *shown]
title = f"What each pixel contributes to the answer {own}"
figures.save(figures.panels(rows, title, units=dict.fromkeys(rows, "of the largest")), f"{FOLDER}/methods.png")

# How to read it. Red: brightness there moves the network towards the class; blue: away from it. Where the map of the
# answer is red and that of its rival blue, these pixels decide between the two.
#
# ![Maps of the answer and of its rival](classification_images.png)
#
# The methods agree on where the answer comes from, and differ in how finely they say it.
#
# ![The same question asked with five methods](methods.png)

# A common mistake. To take the map for what the network knows of a 6. It is about this picture, in noise of this
# contrast: in another picture, or with more noise, other pixels decide.
