"""Dense classifiers: images [n, h, w, c] on the [0, 1] scale -> logits [n, K]."""

from collections.abc import Sequence

import flax.linen as nn
import jax


class DenseNetwork(nn.Module):
    """Dense layers fc1, fc2, ... with ReLU between them; without hidden layers it is logistic regression.

    Given a key for "dropout", that is, in training, it drops the share `dropout` of each hidden layer's units.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    widths: Sequence[int] = ()
    dropout: float = 0.0

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Images [n, H, W, C] -> logits [n, K]; intermediates fc1, fc2, ... before their ReLU."""
        x = images.reshape(images.shape[0], -1)
        for i, width in enumerate(self.widths, start=1):
            x = nn.relu(nn.Dense(width, name=f"fc{i}")(x))
            x = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(x)
        return nn.Dense(self.num_classes, name=f"fc{len(self.widths) + 1}")(x)
