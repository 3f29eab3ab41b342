"""Where moments come from: so that what does not belong together neither adds up nor passes for independent."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from wna_jax.runs.errors import InputError

Half = Literal["all", "even", "odd"]
_OTHER: dict[Half, Half] = {"even": "odd", "odd": "even"}
_WAY_OUT = "give each run a seed of its own"


@dataclass(frozen=True, order=True)
class Samples:
    """Draws of one seed: all of the first ones, or every second of these."""

    seed: int
    sampling: str
    """"independent", or which windows of which fields."""
    draws: int
    """The number of the draw that they end before."""
    half: Half = "all"
    copy: int = 0
    """Which of several noises side by side in one draw, from 1 on; 0 where there is one noise."""

    def depend_on(self, other: "Samples") -> bool:
        """Whether the two have draws in common, or others that the same random numbers make.

        Draws of one seed count from 0 on, so that only the even and the odd ones are independent.
        """
        if (self.seed, self.copy) != (other.seed, other.copy):
            return False
        return self.sampling != other.sampling or self.half != _OTHER.get(other.half)


@dataclass(frozen=True)
class Origin:
    """Where moments come from: of which noise and which response (by `runs.fingerprints`), and which samples.

    Maps have that of their moments. None, in the place of an origin, is that of moments that were not made by the loop:
    they add up with any.
    """

    noise: str
    noise_fingerprint: str
    response: str
    response_fingerprint: str
    samples: tuple[Samples, ...]

    def __add__(self, other: "Origin") -> "Origin":
        """That of the sum of two moments.

        Raises:
            InputError: they are of two noises or two responses, or they are not of independent samples.
        """
        for what in ("noise", "response"):
            first, second = ((getattr(of, what), getattr(of, f"{what}_fingerprint")) for of in (self, other))
            if first != second:
                names = f" ({first[0]}, {second[0]})" if first[0] or second[0] else ""
                if what == "response" and first[0] == second[0]:
                    raise InputError(
                        f"moments of two networks (each {first[0] or 'its weights'}) do not belong together: use those "
                        "of one network, or a contrast of the two"
                    )
                raise InputError(f"moments of two {what}s{names} do not belong together: use those of one {what}")
        check_independent("the moments", self, other)
        samples = list(self.samples)
        for each in other.samples:
            rest = replace(each, half=_OTHER.get(each.half, "all"))
            if each.half != "all" and rest in samples:
                samples[samples.index(rest)] = replace(each, half="all")
            else:
                samples.append(each)
        return replace(self, samples=tuple(sorted(samples)))

    def of_one(self, number: int) -> "Origin":
        """That of the moments of one of several responses, each to a noise of its own, side by side in one draw."""
        samples = tuple(replace(each, copy=number + 1) for each in self.samples)
        return replace(self, response=f"{self.response} of network {number}", samples=samples)

    def __str__(self) -> str:
        """Such as "decision in uniform noise, seed 0"."""
        seeds = ", ".join(dict.fromkeys(str(each.seed) for each in self.samples))
        return f"{self.response or 'weights'} in {self.noise} noise, seed {seeds}"

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Origin":
        """Undoes `dataclasses.asdict`."""
        return cls(**value | {"samples": tuple(Samples(**each) for each in value["samples"])})


def check_independent(what: str, *origins: Origin | None) -> None:
    """Raises an InputError if two of some moments or maps (`what`, for the message) are not of independent samples."""
    known = [each for origin in origins if origin for each in {*origin.samples}]
    for i, one in enumerate(known):
        if any(one.depend_on(other) for other in known[:i]):
            raise InputError(f"{what} share noise samples (seed {one.seed}), and must not: {_WAY_OUT}")
