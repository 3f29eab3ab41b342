"""Noise around a picture: what is drawn, and averaged, is the noise; what is shown is the picture in it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Float

from wna_jax.noise.base import Noise
from wna_jax.runs.errors import InputError
from wna_jax.runs.seeds import key_of


def around(image: Float[np.ndarray, "H W C"], noise: Noise) -> Noise:
    """Noise z about a picture: the network is shown t = image + z, and z is averaged.

    Nothing is clipped: t may leave [0, 1]. Clipping would make the noise of a pixel depend on how bright the picture
    is there, smaller and not centred at black and at white; in exchange the network sees values that no picture has.
    Take a noise of mean 0, such as `gaussian(image.shape, 0, 0.2)`, or t is brighter than the picture. A noise that is
    itself shown in another form than it is drawn in (a coarse one, a decoded code) is added as it is shown. Windows of
    fields are not possible: there is one picture.

    The map of a class is then the direction from the picture along which that answer becomes more likely (Murray 2011,
    Journal of Vision 11(5):2, of classification images of a fixed signal). In Gaussian noise of deviation s the
    regression map of a response f is E[grad f(image + z)] (Stein's identity): SmoothGrad without a gradient.

    Raises:
        InputError: a picture of another shape than the noise is shown in, or with values that are not finite.
    """
    picture = np.asarray(image, np.float32)
    shown = noise.shape
    if noise.present is not None:
        present, key = noise.present, jax.eval_shape(lambda: key_of(0))
        drawn = jax.ShapeDtypeStruct(noise.shape, jnp.float32)
        shown = jax.eval_shape(lambda key, drawn: present(key, drawn), key, drawn).shape
    if picture.shape != shown or not np.isfinite(picture).all():
        what = f"of shape {picture.shape}" if picture.shape != shown else "that is not finite"
        raise InputError(f"a picture {what} in {noise.name} noise: expected finite numbers of shape {shown}")
    name = f"picture + {noise.name}"
    return replace(noise, name=name, draw=None, present=Partial(_in_noise, jnp.asarray(picture), noise.present))


def _in_noise(picture: jax.Array, present: Partial | None, key: jax.Array, drawn: jax.Array) -> jax.Array:
    return picture + (drawn if present is None else present(key, drawn))
