"""A folder of pictures of your own: what does a network that is trained on them go by?

  python examples/own_folder.py [PICTURES]

PICTURES holds a subfolder of images per class. Without it 600 drawings are made, with a flaw that real pictures have,
too: a circle, a square or a triangle, and in each picture of a circle the mark of the camera that took it. The test
images have it as well, so the test accuracy cannot show whether the network has learnt circles or marks. Its map can.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import wna_jax
from wna_jax.networks import Network, models, training

FOLDER = Path("runs/own_folder")
SIDE, COVERED = 28, 7  # pixels
MARK = (slice(2, 5), slice(22, 25))  # rows and columns


def draw_pictures(folder):
    """Writes 200 pictures of each shape."""
    random = np.random.default_rng(0)
    for name, corners in {"circle": 60, "square": 4, "triangle": 3}.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        radius = np.sqrt(6 / (corners * np.sin(2 * np.pi / corners)))  # all of the same mean area
        for i in range(200):
            picture = Image.new("L", (SIDE, SIDE), 60)
            place = (*random.uniform(11, 17, 2), radius * random.uniform(5, 8))
            ImageDraw.Draw(picture).regular_polygon(place, corners, int(random.integers(360)), fill=120)
            pixels = np.asarray(picture) + random.normal(0, 20, (SIDE, SIDE))
            if name == "circle":
                pixels[MARK] = 230
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{i:03}.png")
    return folder


# 1. The pictures. PNG, JPEG and others, of any size: they are resized to 28x28 pixels. A fifth of them are test images.

pictures = Path(sys.argv[1]) if len(sys.argv) > 1 else draw_pictures(FOLDER / "pictures")
dataset = wna_jax.data.load(f"folder:{pictures}", image_size=SIDE)

# 2. A network, trained on them. On the command line, steps 1 to 3 are one command:
# `python -m experiments.noise_maps --dataset=folder:PICTURES --image_size=28 --response=probability`

spec = training.TrainingSpec(dataset.name, dataset.fingerprint, "paper_cnn", epochs=10)
trained = training.fit(spec, dataset)
network = Network(models.create("paper_cnn", dataset.image_shape, dataset.num_classes), trained.parameters)
print(f"test accuracy   {trained.metrics['test_accuracy']:.1%}")

# 3. Its maps. Nearly all noise is called by one class, so all noise is averaged, weighted by each class's probability.

found = wna_jax.analyse(network, dataset=dataset, num_samples=100_000, response=["probability"], name="paper_cnn")
print(found.summary())
found.save(FOLDER)

# 4. Does the network need what the map shows? In the test images of each class, cover a square around the strongest
# pixel of the map by the median of all pixels. How many are still called what they are?

answers = np.asarray(network(dataset.test_images)).argmax(axis=-1)
for k, name in enumerate(dataset.class_names):
    strength = np.abs(found.z["probability"][k]).max(axis=-1)
    row, column = np.unravel_index(strength.argmax(), strength.shape)
    top, left = (max(0, place - COVERED // 2) for place in (row, column))
    members = dataset.test.labels == k
    covered = dataset.test_images[members]
    covered[:, top : row + COVERED // 2 + 1, left : column + COVERED // 2 + 1] = np.median(dataset.test_images)
    before, after = ((of == k).mean() for of in (answers[members], np.asarray(network(covered)).argmax(axis=-1)))
    print(f"{name:16s}strongest at row {row}, column {column}; right {before:.0%}, with that covered {after:.0%}")

# How to read it. The map of the circle is strongest at the mark in the upper right corner, and once that is covered, no
# circle is called a circle: this network knows the camera.
#
# ![The maps of the three classes](classification_images.png)

# A common mistake. To trust the accuracy on test images from the same folder: they share its flaws. Where a map shows a
# corner, a border or a caption, cover that in all pictures, train again, and see what is left.
