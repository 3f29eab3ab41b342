"""A Flax network of your own: train it, and see what it sees in noise.

  python examples/own_flax_network.py [FOLDER]

A network tells handwritten digits apart. Which pixels does it go by? It is shown 100,000 images of noise, and those
that it calls a 3 are averaged: the average, less that of all noise, is its template of a 3. The picture of all maps,
the numbers and `maps.npz` are written to a folder (by default runs/own_flax_network).
"""

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import wna_jax

FOLDER, EPOCHS, BATCH = sys.argv[1] if len(sys.argv) > 1 else "runs/own_flax_network", 6, 64

# 1. A network. Anything will do that takes images [n, H, W, C], from black at 0 to white at 1, to logits [n, classes].


class MyNetwork(nn.Module):
    """Two convolutions and a dense layer."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Images [n, 28, 28, 1] -> logits [n, 10]."""
        x = nn.relu(nn.Conv(16, (5, 5), strides=2)(images))
        x = nn.relu(nn.Conv(32, (3, 3), strides=2)(x))
        return nn.Dense(10)(x.reshape(len(x), -1))


# 2. Its training. As usual in Flax and optax; nothing of wna_jax is needed here but the images, scikit-learn's digits.

digits = wna_jax.data.load("digits")
module, optimizer = MyNetwork(), optax.adam(2e-3)
variables = module.init(jax.random.key(0), jnp.zeros((1, *digits.image_shape)))
state = optimizer.init(variables)


@jax.jit
def step(variables, state, images, labels):
    """One step of Adam on a batch."""

    def loss(variables):
        return optax.softmax_cross_entropy_with_integer_labels(module.apply(variables, images), labels).mean()

    updates, state = optimizer.update(jax.grad(loss)(variables), state)
    return optax.apply_updates(variables, updates), state


images, labels = digits.train.images / np.float32(255), digits.train.labels
for epoch in range(EPOCHS):
    order = np.random.default_rng(epoch).permutation(len(images))
    for batch in np.split(order, range(BATCH, len(order), BATCH))[:-1]:
        variables, state = step(variables, state, images[batch], labels[batch])
right = module.apply(variables, digits.test_images).argmax(axis=-1) == digits.test.labels
print(f"test accuracy   {right.mean():.1%}")

# 3. What it sees in noise. Noise is drawn like the training pixels (their mean and deviation). The data set gives names
# and mean images of the classes; without one, say noise=wna_jax.noise.uniform((28, 28, 1)).

network = wna_jax.networks.of_linen(module, variables)
found = wna_jax.analyse(network, dataset=digits, num_samples=100_000, name="MyNetwork")
print(found.summary())
found.save(FOLDER)
maps, tests = found.maps["probability"], found.findings("probability")
print(f"the map of a 3  {maps.images[3].shape}, {tests.significant['pixels'][3].sum()} significant pixels")

# How to read it. Red: the network takes brightness there as evidence for the class; blue: as evidence against it.
# Outlined pixels are significant, over all maps of their row. The decision map of a 3 is of what was called a 3; the
# probability map of all noise, weighted by the probability of a 3, so classes that are hardly ever called have one too.
#
# ![Classification images of MyNetwork](classification_images.png)

# A common mistake. To read a pale map of a few samples: it is noise. Look at the reliability above it first. If that is
# in red, take the probability map, or as many samples as stand there.
