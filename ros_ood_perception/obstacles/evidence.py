"""How much speaks for a track being an object in the world: log-likelihood ratios of what was seen. Knows no ROS.

The evidence of a track is the log-likelihood ratio of two hypotheses, as in the sequential probability ratio test (Wald
1945) and as the track score of multiple-target tracking (Blackman 1986, chapter 9; Bar-Shalom and Li 1995, section
7.5). Natural logarithms, so 3 means that what was seen is 20 times as likely of an object as of a false mark.

    object: it stands in the world, or it moves and is anywhere in the gate
    false:  it slides over the ground with the vehicle, or it is anywhere in the gate, or it stands in the world too, as
            a shadow does that the network takes for a thing

"Anywhere" has the same probability in both. So a place that neither standing nor sliding explains says nothing, and an
object that moves fast counts by its sightings, as it does without the vehicle's motion. A place that both explain says
nothing either.

It has two parts, each within limits. `sighted` grows with each frame in which the region is seen, and falls with each
in which the place is in view and not marked. It ends at the threshold for appearing and a little more: frames of one
thing are not independent, so many of them prove no more than a few. `placed` compares the places of the two hypotheses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # The declarations of parameters, which a launch file reads without NumPy, take their defaults from here.
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

SIGHTED_MARGIN = 0.3
"""How far `sighted` may be above the threshold for appearing, so that it is reached without any other evidence."""
LEAST_SIGHTED = -1.0
LEAST_PLACED, MOST_PLACED = -4.0, 4.0
"""So bounded, a thing that slid with the vehicle and then stops is an obstacle within a second."""
ANYWHERE = 0.3
"""Probability of either hypothesis that the place is anywhere in the gate."""
FALSE_STANDS = 0.25
"""Probability that a false mark stands in the world."""


@dataclass(frozen=True)
class EvidenceSettings:
    """When a track with a place becomes an obstacle, and when it is none any more. Used where motion is known.

    Attributes:
        appears_at: evidence from which on it is an obstacle.
        vanishes_at: evidence below which it is none any more; below `appears_at`.
        weak_sighting, strong_sighting: evidence of a sighting whose `Region.strength` is the threshold, or 1. In
            between it grows linearly with the strength. With a negative `weak_sighting` a region that barely reaches
            the threshold speaks against an object; so the mask can have a low threshold, and obstacles need more.
        miss: what is subtracted for a frame in which the place is in view and not marked.
        foot_error: standard deviation of the foot's row and column, as a fraction of the frame's height.
        pitch_error_deg: standard deviation of the camera's pitch against the road from frame to frame, degrees.
        object_speed_mps: speed of a slow object, as a standard deviation of its place after a second.
        max_unseen_s: after this time unseen a track is forgotten, seconds.
    """

    appears_at: float = 3.4
    vanishes_at: float = 1.0
    weak_sighting: float = 0.9
    strong_sighting: float = 1.2
    miss: float = 1.0
    foot_error: float = 0.003
    pitch_error_deg: float = 0.15
    object_speed_mps: float = 3.0
    max_unseen_s: float = 2.0

    def __post_init__(self) -> None:
        # Written so that NaN is refused as well.
        if not self.vanishes_at < self.appears_at:
            raise ValueError(
                f"vanishes_at is {self.vanishes_at} and appears_at {self.appears_at}; vanishes_at must be the smaller"
            )
        if not -math.inf < self.weak_sighting <= self.strong_sighting or not self.strong_sighting > 0:
            raise ValueError(
                f"weak_sighting is {self.weak_sighting} and strong_sighting {self.strong_sighting}; strong_sighting "
                "must be above 0 and not below weak_sighting"
            )
        for name in ("miss", "foot_error", "pitch_error_deg", "object_speed_mps"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if not (self.foot_error > 0 and self.max_unseen_s > 0):
            raise ValueError(
                f"foot_error is {self.foot_error} and max_unseen_s {self.max_unseen_s}; both must be positive"
            )

    def sightings(self, strengths: NDArray[np.float64], threshold: float) -> NDArray[np.float64] | float:
        """Evidence of sightings: log p(strength | object) / p(strength | false), taken as linear in the strength.

        Args:
            strengths: (N,) of regions, in [0, 1]; one below the threshold counts as the threshold.
            threshold: the anomaly threshold, in [0, 1].

        Returns:
            (N,), or one number if all are equal.
        """
        share = ((strengths - threshold) / (1 - threshold)).clip(0.0, 1.0) if threshold < 1 else 1.0
        return self.weak_sighting + (self.strong_sighting - self.weak_sighting) * share

    def after_sightings(
        self, sighted: NDArray[np.float64], sightings: NDArray[np.float64] | float
    ) -> NDArray[np.float64]:
        """`sighted` (N,) of tracks that were seen."""
        return (sighted + sightings).clip(LEAST_SIGHTED, self.appears_at + SIGHTED_MARGIN)

    def after_miss(self, sighted: NDArray[np.float64]) -> NDArray[np.float64]:
        """`sighted` (N,) of tracks after a frame in which their places were in view and not marked."""
        return (sighted - self.miss).clip(LEAST_SIGHTED)


def after_places(placed: NDArray[np.float64], ratios: Sequence[float]) -> NDArray[np.float64]:
    """`placed` (N,) of tracks whose places say this, see `place_ratios`."""
    return (placed + ratios).clip(LEAST_PLACED, MOST_PLACED)


def place_ratios(
    static_densities: NDArray[np.float64],
    sliding_densities: NDArray[np.float64],
    clutter_densities: NDArray[np.float64],
) -> list[float]:
    """log p(place | object) / p(place | false) of N places.

    Args:
        static_densities: (N,) Gaussian density of the place if the thing stands still in the world, 1/m^2.
        sliding_densities: (N,) the same if it slides with the vehicle.
        clutter_densities: (N,) 1 / area of the gate, 1/m^2; positive.
    """
    of_object = (1 - ANYWHERE) * static_densities + ANYWHERE * clutter_densities
    slides = 1 - ANYWHERE - FALSE_STANDS
    of_false = FALSE_STANDS * static_densities + slides * sliding_densities + ANYWHERE * clutter_densities
    return list(map(math.log, (of_object / of_false).tolist()))
