"""Single units: what does each unit of a network see, and does one map say it all?

  python examples/single_units.py [FOLDER]

Like a neuron in the visual cortex, a unit inside a network is asked what drives it: noise is shown, and averaged by the
unit's activation. That is its spike-triggered average. For the first layer it is known beforehand: the unit's weights.
Pictures are written to a folder (by default runs/single_units).
"""

import sys
from pathlib import Path

import numpy as np

import wna_jax
from wna_jax import figures, maps
from wna_jax.networks import Network, models, training, units
from wna_jax.studies import spike_triggered

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/single_units")

# 1. A network and its layers. Modules of Flax, Equinox and PyTorch have layers, too.

digits = wna_jax.data.load("digits")
trained = training.fit(training.TrainingSpec("digits", digits.fingerprint, "paper_cnn", epochs=8), digits)
network = Network(models.create("paper_cnn", digits.image_shape, digits.num_classes), trained.parameters)
print(f"layers          {', '.join(units.layer_names(network))}")

# 2. The first layer, where the answer is known. Noise is drawn in the size of the units' receptive field, which is
# found by asking the network. In white noise, the average of such a unit is its weights times a factor.

noise = wna_jax.noise.gaussian(digits.image_shape, 0.5, 0.25)
first = spike_triggered.look_at(network, "conv1", noise, 100_000)
print(f"conv1           {len(first.rates)} units, {len(first.dead)} never fire; receptive field {first.field.size}")
print(f"                r with the weights: {first.correlation.min():.3f} to {first.correlation.max():.3f}")

# 3. The second layer. It has no weights of pixels that one could look at instead.

second = spike_triggered.look_at(network, "conv2", noise, 300_000)
reliable = np.count_nonzero(second.reliability.filled(0) >= figures.RELIABLE)
print(f"conv2           {len(second.rates)} units, {len(second.dead)} never fire; receptive field {second.field.size}")
print(f"                {reliable} averages with a reliability of {figures.RELIABLE} or more")

# 4. A unit without an average. This one squares the sum of its weighted pixels: an edge drives it, and so does the
# negative of that edge, and the two cancel in the average (by chance, |r| over 25 pixels is .2 or more in a third of
# cases). But the noise that drives it varies more than usual along the edge: the spike-triggered covariance finds it.

edge = first.weights[first.rates.argmax()]
small = wna_jax.noise.gaussian(edge.shape, 0.5, 0.25)
square = spike_triggered.with_products(lambda x: ((x - 0.5) * edge).sum(axis=(1, 2, 3))[:, None] ** 2, small)
moments = wna_jax.reverse_correlate(small, square, 100_000)
found = spike_triggered.spike_triggered_covariance(moments, 0, small)
of_unit = {"average": maps.classification_images(moments["average"], small).images[0]}
of_unit["feature"] = found.features[found.excitatory[0]]
r = {name: abs(np.corrcoef(of.ravel(), edge.ravel())[0, 1]) for name, of in of_unit.items()}
print(f"squaring unit   |r| with its weights: average {r['average']:.3f}, feature {r['feature']:.3f}")

# 5. The pictures, of the eight units of each layer that fire most.

FOLDER.mkdir(parents=True, exist_ok=True)
for name, layer in {"conv1": first, "conv2": second}.items():
    most, z = layer.rates.argsort()[-8:][::-1], layer.averages.in_standard_errors
    rows = {"average": [figures.Panel(z[u], f"unit {u} fires\nin {layer.rates[u]:.0%}", is_map=True) for u in most]}
    if layer.weights is not None:
        rows["weights"] = [figures.Panel(layer.weights[u], is_map=True) for u in most]
    title = f"{name}: spike-triggered averages of the units that fire most"
    figures.save(figures.panels(rows, title, units={"weights": "weight"}), FOLDER / f"{name}.png")

# How to read it. Red: brightness there drives the unit; blue: darkness does. In conv1 average and weights are the same
# picture, so the method works. In conv2 the averages show what a unit adds up: strokes and their surroundings.
#
# ![Averages and weights of units of conv1](conv1.png)
#
# ![Averages of units of conv2](conv2.png)

# A common mistake. To take a pale average for a unit that sees nothing. It may hardly ever fire (look at its rate, draw
# more noise), or square what it sees: `python -m experiments.spike_triggered_covariance --layer=conv2` looks for that.
