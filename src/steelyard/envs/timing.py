"""How long a control step is, of the tasks whose segments are filmed in the right speed."""

from steelyard.envs import dense

_BY_PREFIX = {"dense/": dense.CONTROL_TIMESTEP, "RoboPianist-": 0.05, "Pendulum-v1": 0.05}


def control_timestep(env: str, given: float | None = None) -> float:
    """Seconds of a control step.

    Args:
        env: Task.
        given: What the user says it is; none looks it up.

    Raises:
        ValueError: It is not known, or not above 0.
    """
    if given is not None:
        if not given > 0:
            raise ValueError(f"a control step is longer than 0 s: got {given}")
        return given
    for prefix, seconds in _BY_PREFIX.items():
        if env.startswith(prefix):
            return seconds
    raise ValueError(f"how long is a step of {env}? Say so with --control-timestep SECONDS")
