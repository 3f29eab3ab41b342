"""A PyTorch network of your own: train it, and see what it sees in noise.

  python examples/own_torch_network.py [FOLDER]

Needs PyTorch (pip install torch). The question is that of the Flax tutorial: which pixels does a network that tells
handwritten digits apart go by? The network stays in PyTorch, on its device, and is shown 100,000 images of noise. For
the experiments on the command line there is `create`:

  python -m experiments.signal_in_noise --model=examples/own_torch_network.py:create --dataset=digits --classes=3,8
"""

import sys

import torch
from torch import nn

import wna_jax

EPOCHS, BATCH = 8, 64
MEAN, STD = 0.3, 0.35  # of the pixels, in [0, 1]: the network is trained on normalised images, [n, channels, H, W]

# 1. A network and its training. As usual in PyTorch.


def trained(digits):
    """Two convolutions and a dense layer, in training mode."""
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(1, 16, 5, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2)]
    module = nn.Sequential(*convolutions, nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(32 * 5 * 5, 10))
    images = (torch.tensor(digits.train.images).permute(0, 3, 1, 2) / 255 - MEAN) / STD
    labels = torch.tensor(digits.train.labels, dtype=torch.long)
    optimizer = torch.optim.Adam(module.parameters(), 2e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(images[batch]), labels[batch]).backward()
            optimizer.step()
    return module


# 2. The network as it is shown noise. Noise has black at 0 and white at 1; `TorchNetwork` normalises it as the training
# did, and asks the module in evaluation mode, without gradients. `Foreign` adds what a module does not say of itself.


def create():
    """The trained network, as analyse and --model take it: images [n, 28, 28, 1] in [0, 1] -> logits [n, 10]."""
    digits = wna_jax.data.load("digits")
    network = wna_jax.networks.TorchNetwork(trained(digits), mean=MEAN, std=STD)
    return wna_jax.networks.Foreign(network, digits.image_shape, digits.class_names)


# 3. What it sees in noise.

if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else "runs/own_torch_network"
    digits = wna_jax.data.load("digits")
    network = create()
    answers = wna_jax.responses.logits_of(network, digits.test_images).argmax(axis=-1)
    print(f"test accuracy   {(answers == digits.test.labels).mean():.1%}")
    found = wna_jax.analyse(network, dataset=digits, num_samples=100_000, name="a PyTorch network")
    print(found.summary())
    found.save(folder)

# How to read it. Red: the network takes brightness there as evidence for the class; blue: as evidence against it.
# Outlined pixels are significant. The reliability above a map is the correlation to be expected with the map of as many
# other samples.
#
# ![Classification images of a PyTorch network](classification_images.png)

# A common mistake. To leave out `mean` and `std`: the network then sees noise of another brightness and contrast than
# any image in its training. First ask it about images whose classes you know, as above: the test accuracy must be that
# of your training.
