"""Gaussian noise of a chosen spectrum: one band of spatial frequencies, or a power that falls with frequency.

White Gaussian noise is multiplied by a gain per frequency (FFT), so the noise is periodic: a pixel at the right border
is a neighbour of that at the left. Its covariance is exact. Frequencies are in cycles per image height, in all
directions: that of k_y cycles down and k_x across is H sqrt((k_y / H)^2 + (k_x / W)^2). Every draw has the same mean.
"""

import math
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import register_dataclass
from jaxtyping import Float

from wna_jax.noise import random
from wna_jax.noise.base import Noise, Shape
from wna_jax.noise.white import image_shape, per_channel
from wna_jax.runs.errors import InputError


def band(
    shape: Shape,
    centre: float,
    octaves: float = 1.0,
    mean: float | np.ndarray = 0.5,
    deviation: float | np.ndarray = 0.2,
) -> Noise:
    """Gaussian noise of the frequencies from centre 2^(-octaves / 2) up to centre 2^(octaves / 2), all equally strong.

    The filter is ideal: noise outside the band is 0, and bands of one octave, an octave apart, divide all frequencies
    among them without a gap. That suits critical-band masking (Solomon & Pelli 1994, Nature 369:395), where noise that
    leaks into other bands would make a channel look wider than it is.

    Args:
        shape: (H, W, C) of an image; the channels are independent of each other.
        centre: the band's centre on a logarithmic scale, in cycles per image height.
        octaves: the band's width.
        mean: of all pixels, or of each channel [C], in pixel intensity.
        deviation: the standard deviation of a pixel, likewise; nothing is clipped.

    Raises:
        InputError: no frequency of such an image lies in the band; a number that is not above 0 and finite.
    """
    shape = image_shape(shape)
    for what, value in (("centre", centre), ("width in octaves", octaves)):
        if not 0 < value < math.inf:
            raise InputError(f"the {what} of a band of noise is {value:g}: it must be above 0, and finite")
    inside = in_band(shape, centre, octaves)
    if not inside.any():
        known, (low, high) = np.unique(frequencies(shape))[1:], _ends(centre, octaves)
        those = f"images of {shape[0]}x{shape[1]} pixels have those from {known[0]:.3g} to {known[-1]:.3g}"
        problem = f"no frequency lies between {low:.3g} and {high:.3g} cycles per image height"
        raise InputError(f"band:{_text(centre)},{_text(octaves)} noise: {problem}: {those}")
    return _of_gain(f"band:{_text(centre)},{_text(octaves)}", shape, inside.astype(np.float64), mean, deviation)


def power_law(
    shape: Shape, exponent: float = 2.0, mean: float | np.ndarray = 0.5, deviation: float | np.ndarray = 0.2
) -> Noise:
    """Gaussian noise whose power falls with frequency as 1 / f^exponent, and its amplitude as 1 / f^(exponent / 2).

    2 is about the spectrum of natural images (Field 1987, JOSA A 4:2379), 0 has all frequencies equally strong, and a
    negative exponent fine noise alone. The frequency 0 is left out. The other arguments are those of `band`.

    Raises:
        InputError: an exponent that is not finite, a deviation that is not above 0, or images of one pixel.
    """
    shape = image_shape(shape)
    if not math.isfinite(exponent):
        raise InputError(f"the exponent of the noise's power is {exponent:g}: expected a number, such as 2")
    frequency = frequencies(shape)
    if not frequency.any():
        raise InputError("power noise of one pixel has no frequency: expected larger images")
    gain = np.where(frequency > 0, np.where(frequency > 0, frequency, 1) ** (-exponent / 2), 0)
    return _of_gain(f"power:{_text(exponent)}", shape, gain, mean, deviation)


def frequencies(shape: Shape) -> Float[np.ndarray, "H W"]:
    """The frequency of each coefficient of an image's FFT, in cycles per image height."""
    height, width, _ = shape
    return height * np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))


def in_band(shape: Shape, centre: float, octaves: float = 1.0) -> np.ndarray:
    """Which coefficients of an image's FFT [H, W] are in a band: its lower end belongs to it, its upper does not."""
    low, high = _ends(centre, octaves)
    frequency = frequencies(shape) * (1 + 1e-12)  # what rounding leaves below an end is at the end
    return (low <= frequency) & (frequency < high)


@register_dataclass
@dataclass(frozen=True, eq=False)
class Filtered:
    """Draws white noise times a gain per frequency: a `Noise.sample` that knows its covariance."""

    shape: Shape = field(metadata={"static": True})
    mean: np.ndarray
    """[C], as the deviation."""
    deviation: np.ndarray
    gain: np.ndarray
    """[H, W // 2 + 1], of `rfft2`; scaled so that a pixel has the variance 1."""

    def __call__(self, key: jax.Array) -> jax.Array:
        """A random key -> one image [H, W, C]."""
        spectrum = jnp.fft.rfft2(random.normal(key, self.shape), axes=(0, 1))
        gain = jnp.asarray(self.gain, spectrum.dtype)[:, :, None]
        unit = jnp.fft.irfft2(spectrum * gain, self.shape[:2], axes=(0, 1))
        mean, deviation = (jnp.broadcast_to(value, self.shape) for value in (self.mean, self.deviation))
        return mean + deviation * unit

    def covariance(self) -> Float[np.ndarray, "D D"]:
        """The exact covariance of the H W C values of a draw, in C order; it depends on the distance of two pixels.

        cov(x_p, x_q) = s^2 / (H W) sum over frequencies k of gain_k^2 cos(2 pi k (p - q)), and 0 between channels.
        """
        height, width, channels = self.shape
        power = np.asarray(self.gain, np.float64) ** 2
        at_lag = np.fft.irfft2(power, (height, width))
        rows, columns = (np.subtract.outer(np.arange(size), np.arange(size)) % size for size in (height, width))
        of_plane = at_lag[rows[:, None, :, None], columns[None, :, None, :]].reshape(height * width, -1)
        variance = np.asarray(self.deviation, np.float64) ** 2
        return np.einsum("pq,c,cd->pcqd", of_plane, variance, np.eye(channels)).reshape(
            2 * (height * width * channels,)
        )


def _of_gain(
    name: str, shape: Shape, gain: np.ndarray, mean: float | np.ndarray, deviation: float | np.ndarray
) -> Noise:
    """Noise of a gain per frequency [H, W], of any scale."""
    mean, deviation = per_channel("mean", mean, shape), per_channel("deviation", deviation, shape)
    if not (deviation > 0).all():
        raise InputError(f"the noise's deviation is {deviation.tolist()}: it must be above 0")
    half = (gain / np.sqrt(np.mean(gain**2)))[:, : shape[1] // 2 + 1]
    sample = Filtered(shape, *(array.astype(np.float32) for array in (mean, deviation, half)))
    return Noise(name, shape, mean, deviation, sample, white=False, gaussian=True)


def _ends(centre: float, octaves: float) -> tuple[float, float]:
    return centre * 2 ** (-octaves / 2), centre * 2 ** (octaves / 2)


def _text(number: float) -> str:
    """A number that reads back as it is."""
    return repr(float(number)).removesuffix(".0")
