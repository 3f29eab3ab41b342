"""People and a network see the same noise: stimuli, answers, maps, and how far all agree.

  python examples/people.py [FOLDER] [TRIALS]

Writes noise images for a forced choice (in which of two is a 3?) and a table to a folder (by default runs/people),
fills in the table as six simulated people would, who have a known template and noise of their own, reads it again, and
draws the maps: of the group, of everyone, and of a network that answered the same trials. With real people only step 2
changes: show the images, and fill in the column "response".
"""

import csv
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import wna_jax
from wna_jax import figures, observers, statistics
from wna_jax.observers import Drawn

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/people")
TRIALS = int(sys.argv[2]) if len(sys.argv) > 2 else 2_000
PEOPLE, SEED = ("Anna", "Ben", "Cem", "Dora", "Emil", "Fay"), 7

# 1. Stimuli: numbered PNG files, trials.csv to be filled in, and stimuli.json, which says what they are made of.
#    Or: python -m experiments.observer --export=FOLDER --num_trials=2000 --design=2afc --noise=gaussian:0.5,0.15

noise = wna_jax.noise.gaussian((28, 28, 1), 0.5, 0.15)
written = wna_jax.export_stimuli(FOLDER, noise, TRIALS, seed=SEED, design="2afc")
print(f"stimuli         {written.files:,} images in {FOLDER}; {written.clipped:.2%} of pixels clipped")

# 2. Answers. Each person looks for a 3 at a slightly different place, with internal noise as large as the stimuli's.

digits = wna_jax.data.load("digits")
three = digits.class_means[3] - digits.class_means.mean(axis=0)
templates = [np.roll(three, (i % 3 - 1, i // 3), axis=(0, 1)) for i in range(len(PEOPLE))]
numbers = np.arange(2 * TRIALS)
first, second = Drawn(noise, numbers[::2], SEED), Drawn(noise, numbers[1::2], SEED)
with (FOLDER / "answers.csv").open("w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["participant", "stimulus", "second", "response"])
    for i, who in enumerate(PEOPLE):
        see = observers.linear_observer(templates[i], noise)
        answers = observers.answer(see, first, second, internal_noise=1.0, seed=i)
        for trial, chosen in enumerate(answers):
            rows.writerow([who, 2 * trial, 2 * trial + 1, "first" if chosen > 0 else "second"])

# 3. The table again, and all of its participants: a map of each, as wna_jax.analyse gives of a network, and the group's
#    with a test at each pixel across participants and stimuli, and all other tests.
#    Or, with the figure: python -m experiments.observer --trials=FOLDER/answers.csv

table = observers.read_trials(FOLDER / "answers.csv")
trials, shown = observers.found_stimuli(FOLDER / "answers.csv", table)
group = observers.analyse_group(trials, shown)

# 4. Are the maps as good as theory says?

expected = float(statistics.predicted_correlation(TRIALS, observers.n0_of_linear_observer(784, 1.0, intervals=2)))
maps = np.ma.concatenate([one.maps["choice"].images for one in group.analyses.values()])
measured = statistics.map_correlation(maps, np.stack(templates)).mean()
of_group = statistics.map_correlation(group.map.images, np.mean(templates, axis=0)[None])[0]
print(f"maps            r with their templates {measured:.3f}, by theory {expected:.3f}; the group's {of_group:.3f}")
print(f"significant     {', '.join(f'{test} {of.sum()}' for test, of in group.findings.significant.items())}")

# 5. A network answers the same trials, and is one more observer.


def nearest_mean(images):
    """Logits by the distance from each class mean: a network in one line."""
    means = jnp.asarray(digits.class_means.reshape(10, -1))
    return images.reshape(len(images), -1) @ means.T - (means**2).sum(axis=1) / 2


choices = observers.answer(observers.network_observer(nearest_mean, 3), first, second)
everyone = observers.analyse_group(trials | {"a network": observers.Trials(first, choices, second)}, shown)
picture = figures.observers(
    everyone, "A 3 in noise: six simulated people and a network, the same trials", answer="first"
)
figures.save(picture, FOLDER / "people.png")
print(f"look at         {FOLDER}/people.png")
