"""What every contender of ``benchmarks/peers.py`` shares: two clocks, and one line of JSON.

Imports the standard library only: it runs in the environments of the peers as well.
"""

import json
import time
from importlib import metadata
from typing import NamedTuple


class Moment(NamedTuple):
    """Wall time, and CPU time of all threads of this process, s."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Moment":
        return cls(time.perf_counter(), time.process_time())

    def since(self, earlier: "Moment") -> "Moment":
        return Moment(self.wall - earlier.wall, self.cpu - earlier.cpu)


def took(function, *arguments):
    """What a call returned, and how long it took."""
    begin = Moment.now()
    result = function(*arguments)
    return result, Moment.now().since(begin)


def report(metrics: dict[str, float], packages: tuple[str, ...], **more) -> None:
    """Print the last line that a contender prints."""
    versions = {name: metadata.version(name) for name in packages}
    print(json.dumps({"metrics": metrics, "versions": versions, **more}), flush=True)
