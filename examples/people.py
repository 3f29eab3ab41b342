"""People and a network see the same noise: stimuli, answers, maps, and how far all agree.

  python examples/people.py [FOLDER] [TRIALS]

Do people who look for a 3 in noise go by the same pixels, and does a network? Stimuli for a forced choice (in which of
two noise images is a 3?) and a table are written to a folder (by default runs/people). The table is filled in as six
simulated people would, who have known templates; so it shows, too, what a number of trials is worth.
"""

import csv
import sys
from pathlib import Path

import numpy as np

import wna_jax
from wna_jax import figures, observers, statistics
from wna_jax.observers import Drawn

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/people")
TRIALS = int(sys.argv[2]) if len(sys.argv) > 2 else 2_000
PEOPLE, SEED = ("Anna", "Ben", "Cem", "Dora", "Emil", "Fay"), 7

# 1. Stimuli. Numbered PNG files, trials.csv to be filled in, and stimuli.json, which says what they are made of. Or:
# `python -m experiments.observer --export=FOLDER --num_trials=2000 --design=2afc --noise=gaussian:0.5,0.15`

noise = wna_jax.noise.gaussian((28, 28, 1), 0.5, 0.15)
written = wna_jax.export_stimuli(FOLDER, noise, TRIALS, seed=SEED, design="2afc")
print(f"stimuli         {written.files:,} images in {FOLDER}; {written.clipped:.2%} of pixels clipped")

# 2. Answers. With real people only this step changes: show the images, and fill in the column `response`. Here each
# looks for a 3 at a slightly different place, with internal noise as large as that of the stimuli.

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
        rows.writerows([who, 2 * t, 2 * t + 1, "first" if of > 0 else "second"] for t, of in enumerate(answers))

# 3. Maps of everyone and of the group. The group's is tested at each pixel across participants and stimuli. Or, with
# the figure: `python -m experiments.observer --trials=FOLDER/answers.csv`

table = observers.read_trials(FOLDER / "answers.csv")
trials, shown = observers.found_stimuli(FOLDER / "answers.csv", table)
group = observers.analyse_group(trials, shown)
print(f"significant     {', '.join(f'{test} {of.sum()}' for test, of in group.findings.significant.items())}")

# 4. Are the maps as good as theory says? How far a map agrees with the template follows from the number of trials.

expected = float(statistics.predicted_correlation(TRIALS, observers.n0_of_linear_observer(784, 1.0, intervals=2)))
maps = np.ma.concatenate([one.maps["choice"].images for one in group.analyses.values()])
measured = statistics.map_correlation(maps, np.stack(templates)).mean()
of_group = statistics.map_correlation(group.map.images, np.mean(templates, axis=0)[None])[0]
print(f"maps            r with their templates {measured:.3f}, by theory {expected:.3f}; the group's {of_group:.3f}")

# 5. A network answers the same trials. This one compares an image with the mean image of each class.

means = digits.class_means.reshape(10, -1)
see = observers.network_observer(lambda x: x.reshape(len(x), -1) @ means.T - (means**2).sum(axis=1) / 2, 3)
choices = observers.answer(see, first, second)
everyone = observers.analyse_group(trials | {"a network": observers.Trials(first, choices, second)}, shown)
title = "A 3 in noise: six simulated people and a network, the same trials"
figures.save(figures.observers(everyone, title, answer="first"), FOLDER / "people.png")

# How to read it. Red: brighter noise there speaks for a 3. Outlined is what the group's tests find. Under each map is
# its correlation with the others' mean map, and in brackets what it would be without the noise in both: these people
# look for one and the same thing, a 3 at slightly different places; the network goes by other pixels.
#
# ![Maps of the group, of six simulated people and of a network](people.png)

# A common mistake. To take the map of one person of a few hundred trials for a picture of what that person sees. Ask
# step 4 first how many trials it takes, and report the group's tests instead of what can be made out in a smoothed map.
