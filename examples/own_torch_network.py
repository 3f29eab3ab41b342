"""A PyTorch network of your own: train it, and see what it sees in noise.

  python examples/own_torch_network.py [FOLDER]

Needs PyTorch (pip install torch). Trains a small convolutional network on scikit-learn's digits, shows it 100,000 noise
images, and writes the picture of its classification images, the numbers, and `maps.npz` to a folder (by default
runs/own_torch_network). For the experiments on the command line there is `create`:

  python -m experiments.signal_in_noise --model=examples/own_torch_network.py:create --dataset=digits --classes=3,8
"""

import sys

import torch
from torch import nn

import wna_jax

EPOCHS, BATCH = 8, 64
MEAN, STD = 0.3, 0.35  # of the pixels, in [0, 1]: the network is trained on normalised images, [n, channels, H, W]


def trained(digits):
    """A network of two convolutions, trained as usual in PyTorch."""
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


def create():
    """The trained network, as analyse and --model take it: images [n, 28, 28, 1] in [0, 1] -> logits [n, 10]."""
    digits = wna_jax.data.load("digits")
    network = wna_jax.networks.TorchNetwork(trained(digits), mean=MEAN, std=STD)
    return wna_jax.networks.Foreign(network, digits.image_shape, digits.class_names)


if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else "runs/own_torch_network"
    digits = wna_jax.data.load("digits")
    network = create()
    answers = wna_jax.responses.logits_of(network, digits.test_images).argmax(axis=-1)
    print(f"test accuracy   {(answers == digits.test.labels).mean():.1%}")
    found = wna_jax.analyse(network, dataset=digits, num_samples=100_000, name="a PyTorch network")
    print(found.summary())
    found.save(folder)
    print(f"look at         {folder}/classification_images.png")
