import re
from pathlib import Path

import jax
import jax.numpy as jnp

from wna_jax.networks import models

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_library_in_five_lines_runs_as_it_stands_in_the_readme() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    module = models.create("logistic", (28, 28, 1), 10)
    parameters = models.initial_parameters(module, jax.random.key(0))

    def my_logits(images: jax.Array) -> jax.Array:
        return module.apply({"params": parameters}, images).astype(jnp.float32)

    names = {"my_logits": my_logits}
    exec(code.replace("100_000", "2_000"), names)
    maps = names["maps"]
    assert maps.count.sum() == 2000  # type: ignore[attr-defined]
    assert maps.images.shape == (10, 28, 28, 1)  # type: ignore[attr-defined]


def test_every_file_that_the_readme_links_exists() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    for link in links:
        assert (Path(__file__).parent.parent / link).exists(), link
