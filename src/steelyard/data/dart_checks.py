"""The car's own sensors against the motion derived from the capture: a check of both."""

import dataclasses

import numpy as np
from jaxtyping import Float

from steelyard.data.dart import DartConfig, dart_motion
from steelyard.data.dart_files import DartFile

_LEAST_SPEED = 0.2  # m/s: below it the encoder counts too few ticks
_MOVING = 0.05  # m/s
_LAGS_S = np.arange(0.0, 0.155, 0.01)


@dataclasses.dataclass(frozen=True)
class SensorCheck:
    """Wheel encoder and gyro against the derived twist, at sensor ticks.

    Slopes are of regressions through the origin. An encoder slope above 1 is wheel slip.

    Attributes:
        moving_s: Time with a speed above 0.05 m/s.
        max_speed: m/s.
        max_yaw_rate: Absolute, rad/s.
        encoder_slope: Encoder speed over forward velocity, where both exceed 0.2 m/s.
        encoder_correlation: Between them.
        encoder_median_error: Median absolute difference, m/s.
        encoder_rmse: m/s.
        gyro_slope: Measured over derived yaw rate.
        gyro_rmse: rad/s.
        gyro_lag_s: Lag of the gyro that minimises ``gyro_rmse``; taken out of both figures.
    """

    moving_s: float
    max_speed: float
    max_yaw_rate: float
    encoder_slope: float
    encoder_correlation: float
    encoder_median_error: float
    encoder_rmse: float
    gyro_slope: float
    gyro_rmse: float
    gyro_lag_s: float


def check_sensors(file: DartFile, config: DartConfig = DartConfig()) -> SensorCheck:
    """Compare one recording's sensors with its motion."""
    motion = dart_motion(file, config)
    twist = np.where(motion.usable[:, None], motion.twist, np.nan)
    speed = np.hypot(twist[:, 0], twist[:, 1])
    tick = np.flatnonzero(np.diff(file.sensor_time, prepend=np.nan) != 0)
    forward, encoder = twist[tick, 0], file.encoder[tick]
    rolls = (forward > _LEAST_SPEED) & (encoder > _LEAST_SPEED)
    forward, encoder = forward[rolls], encoder[rolls]

    lags = [round(lag / motion.clock.period) for lag in _LAGS_S]
    late = [_regression(_delayed(twist[:, 2], lag)[tick], file.gyro[tick]) for lag in lags]
    best = int(np.argmin([rmse for _, rmse in late]))
    slope, rmse = _regression(forward, encoder)
    return SensorCheck(
        moving_s=float((speed > _MOVING).sum() * motion.clock.period),
        max_speed=float(np.nanmax(speed)),
        max_yaw_rate=float(np.nanmax(np.abs(twist[:, 2]))),
        encoder_slope=slope,
        encoder_correlation=float(np.corrcoef(forward, encoder)[0, 1]),
        encoder_median_error=float(np.median(np.abs(encoder - forward))),
        encoder_rmse=rmse,
        gyro_slope=late[best][0],
        gyro_rmse=late[best][1],
        gyro_lag_s=float(lags[best] * motion.clock.period),
    )


def _delayed(signal: Float[np.ndarray, " row"], rows: int) -> Float[np.ndarray, " row"]:
    return np.concatenate([np.full(rows, np.nan), signal[: len(signal) - rows]])


def _regression(
    x: Float[np.ndarray, " tick"], y: Float[np.ndarray, " tick"]
) -> tuple[float, float]:
    """Return the slope of ``y`` over ``x`` through the origin, and the RMS of ``y - x``."""
    known = np.isfinite(x)
    x, y = x[known], y[known]
    return float(x @ y / (x @ x)), float(np.sqrt(np.mean((y - x) ** 2)))
