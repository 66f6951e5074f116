"""Devices that share each batch: the same learning, up to rounding."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

from steelyard.training.sharding import spread

RUNS = """
import json, sys
sys.path.insert(0, {here!r})
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
from steelyard.studies.hardware import use_device
from steelyard.training.recipes import train_bc, train_sac
from tiny_runs import BC_RUN, SAC_RUN, demonstrations, group, silent

root = Path(sys.argv[1])
data = [demonstrations(10, seed) for seed in (0, 1)]

def leaves(agent):
    return [np.asarray(x, np.float64) for x in jax.tree.leaves(agent) if x.dtype == jnp.float32]

def all_runs(name):
    return [
        train_sac(SAC_RUN, group(root / name / "sac"), silent),
        train_bc(BC_RUN, group(root / name / "bc"), data, silent),
    ]

alone = [leaves(agent) for agent in all_runs("alone")]
use_device("cpu:0,1")
shared = all_runs("shared")
devices = [len(jax.tree.leaves(agent)[0].sharding.device_set) for agent in shared]
apart = [
    max(float(np.max(np.abs(a - b) / (1 + np.abs(a)))) for a, b in zip(one, leaves(two)))
    for one, two in zip(alone, shared)
]
print(json.dumps([devices, apart]))
"""

STEP = """
import json
import jax, jax.numpy as jnp
from steelyard.studies.hardware import use_device
from steelyard.training.sharding import spread

use_device("cpu:0,1")

def loss(weights, rows):
    return jnp.mean(jnp.tanh(spread(rows) @ weights) ** 2)

step = jax.jit(jax.grad(loss)).lower(jnp.ones((8, 8)), jnp.ones((16, 8))).compile()
try:
    jax.jit(jax.grad(loss))(jnp.ones((8, 8)), jnp.ones((15, 8)))
except ValueError as error:
    print(json.dumps(["all-reduce" in step.as_text(), str(error)]))
"""


def child(code: str, *words: str):
    """What a process with two devices prints last."""
    two = os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2",
    }
    words = (sys.executable, "-c", code, *words)
    done = subprocess.run(words, env=two, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_sac_and_bc_learn_the_same_on_two_devices(tmp_path):
    devices, apart = child(RUNS.format(here=str(Path(__file__).parent)), str(tmp_path))
    assert devices == [2, 2]
    assert max(apart) < 2e-3, apart


def test_gradients_are_summed_over_the_devices_and_odd_batches_refused():
    summed, odd = child(STEP)
    assert summed
    assert odd.endswith("its rows must be a multiple of 2, got 15")


def test_without_several_devices_a_batch_stays_as_it_is():
    batch = {"rows": jnp.ones(3)}
    assert spread(batch) is batch
