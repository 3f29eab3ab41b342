"""A Flax network of your own: train it, and see what it sees in noise.

  python examples/own_flax_network.py [FOLDER]

Trains a small convolutional network on scikit-learn's digits, shows it 100,000 noise images, and writes the picture of
its classification images, the numbers, and `maps.npz` to a folder (by default runs/own_flax_network).
"""

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import wna_jax

FOLDER = sys.argv[1] if len(sys.argv) > 1 else "runs/own_flax_network"
EPOCHS, BATCH = 6, 64


# 1. A network: anything that takes images [n, H, W, C] in [0, 1] to logits [n, classes].


class MyNetwork(nn.Module):
    """Two convolutions and a dense layer."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Images [n, 28, 28, 1] -> logits [n, 10]."""
        x = nn.relu(nn.Conv(16, (5, 5), strides=2)(images))
        x = nn.relu(nn.Conv(32, (3, 3), strides=2)(x))
        return nn.Dense(10)(x.reshape(len(x), -1))


# 2. Its training, as usual in Flax and optax. Nothing of wna_jax is needed here but the images.

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
    for start in range(0, len(order) - BATCH + 1, BATCH):
        batch = order[start : start + BATCH]
        variables, state = step(variables, state, images[batch], labels[batch])
right = module.apply(variables, digits.test_images).argmax(axis=-1) == digits.test.labels
print(f"test accuracy   {right.mean():.1%}")

# 3. What does it see in noise? Noise is drawn like the training pixels (their mean and deviation), classified, and
#    averaged by its class. The data set gives names and mean images of the classes; both can be left out, with
#    noise=wna_jax.noise.uniform((28, 28, 1)).

found = wna_jax.analyse(
    lambda images: module.apply(variables, images), dataset=digits, num_samples=100_000, name="MyNetwork"
)
print(found.summary())
found.save(FOLDER)
print(f"look at         {FOLDER}/classification_images.png")

# 4. The numbers, by response: maps with their standard errors, z-maps, reliability, and all tests.

maps, tests = found.maps["probability"], found.findings("probability")
print(f"the map of a 3  {maps.images[3].shape}, {tests.significant['pixels'][3].sum()} significant pixels")
