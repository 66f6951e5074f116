"""Positions, velocities and accelerations from noisy samples, by local quadratic fits."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

LEAST_SAMPLES = 4
"""A quadratic through three points follows the noise exactly; one more smooths."""


@dataclasses.dataclass(frozen=True)
class LocalFit:
    """What local fits say at each sample; NaN where the window is not complete.

    Attributes:
        value: Smoothed signal.
        rate: Its first derivative, per second.
        acceleration: Its second derivative, per second squared.
        residual: Root mean square of what the fit leaves, over its window.
        complete: Whether the samples reach both ends of the window.
    """

    value: Float[np.ndarray, "sample channel"]
    rate: Float[np.ndarray, "sample channel"]
    acceleration: Float[np.ndarray, "sample channel"]
    residual: Float[np.ndarray, "sample channel"]
    complete: Bool[np.ndarray, " sample"]


def local_quadratic(
    time: Float[np.ndarray, " sample"],
    signal: Float[np.ndarray, "sample channel"],
    before: float,
    after: float,
) -> LocalFit:
    """Fit ``z(t + u) = value + rate u + acceleration u²/2`` by least squares around each sample.

    Savitzky, Golay 1964, "Smoothing and differentiation of data by simplified least squares
    procedures", for any time stamps.

    Args:
        time: Stamps in seconds, strictly increasing, without gaps.
        signal: Samples of each channel.
        before: How far a window reaches back, s.
        after: How far it reaches ahead, s; 0 for fits that see the past only.
    """
    count = len(time)
    if count < LEAST_SAMPLES:
        nothing = np.full(signal.shape, np.nan)
        return LocalFit(nothing, nothing, nothing, nothing, np.zeros(count, bool))
    slack = 0.5 * float(np.median(np.diff(time)))  # a jittering stamp stays in its window
    first = np.searchsorted(time, time - before - slack)
    stop = np.searchsorted(time, time + after + slack, side="right")
    width = int((stop - first).max())
    rows = np.minimum(first[:, None] + np.arange(width), count - 1)
    inside = (first[:, None] + np.arange(width) < stop[:, None]).astype(float)

    scale = before + after
    offset = (time[rows] - time[:, None]) / scale
    powers = np.stack([np.ones_like(offset), offset, 0.5 * offset**2], axis=-1)
    weighted = powers * inside[..., None]
    complete = (
        (time - time[0] >= before - slack)
        & (time[-1] - time >= after - slack)
        & (stop - first >= LEAST_SAMPLES)
    )
    normal = np.einsum("nki,nkj->nij", weighted, powers)
    normal[~complete] = np.eye(3)
    centre = signal[0]  # keeps digits far from the origin, and the past from seeing the future
    samples = (signal - centre)[rows]
    fit = np.linalg.solve(normal, np.einsum("nki,nkc->nic", weighted, samples))
    left = (samples - np.einsum("nki,nic->nkc", powers, fit)) * inside[..., None]
    residual = np.sqrt((left**2).sum(axis=1) / inside.sum(axis=1)[:, None])
    hidden = np.where(complete, 1.0, np.nan)[:, None]
    return LocalFit(
        value=(fit[:, 0] + centre) * hidden,
        rate=fit[:, 1] / scale * hidden,
        acceleration=fit[:, 2] / scale**2 * hidden,
        residual=residual * hidden,
        complete=complete,
    )
