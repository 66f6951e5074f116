"""The online phase: what no emphasis changes, what is stored, and what a kill loses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import silent

from steelyard.agents.acfql import ACFQL, ACFQLConfig
from steelyard.data.trajectory_store import TrajectoryStore
from steelyard.emphasis.trajectory_draws import TrajectoryEmphasis
from steelyard.envs.registry import env_spec, make_env
from steelyard.envs.seeding import training_seeds
from steelyard.training import online_rl_programs as programs
from steelyard.training.checkpoint import stack_runs, take_run
from steelyard.training.group import RunGroup
from steelyard.training.metrics import read_rows
from steelyard.training.online_rl import OnlineRLConfig, train_online
from steelyard.training.online_rl_programs import DrawSettings, RunEmphasis
from steelyard.training.operator_demonstrations import record_operators
from steelyard.training.run_folder import RunFolder

FORK = "sparse/Fork-v0"
AGENT = ACFQLConfig(
    hidden=(16,), batch_size=16, num_qs=2, flow_steps=2, reduction="self_normalised_mean"
)
ONLINE = OnlineRLConfig(
    online_steps=120,
    start_training=0,
    ptr_warmup_steps=10,
    rerank_interval=10,
    log_interval=20,
    eval_interval=1_000,
    save_interval=60,
)
UNIFORM = TrajectoryEmphasis()
T_PER = TrajectoryEmphasis("rank", corrected=True)


@pytest.fixture(scope="module")
def data():
    return record_operators(FORK, "fork-small", 3).data


def run(data, root, emphases, config=ONLINE, seed=7, agent=AGENT, assign=None, tick=silent):
    """Online runs of one seed that differ in emphasis, from one untrained learner."""
    number = len(emphases)
    store = TrajectoryStore.of(data, config.online_steps, 20)
    labels = np.zeros(store.length.shape[0], np.int32)
    labels[: len(data)] = data.terminations[np.cumsum(data.lengths) - 1]
    labels[len(data) :] = 2
    folders = [RunFolder(root / str(i)).open({"i": i}) for i in range(number)]
    group = RunGroup([seed] * number, folders, "online")
    start = ACFQL.create(jax.random.key(1), env_spec(FORK), agent)

    class Same:
        """Equal environments for runs of equal seed."""

        def __init__(self, generation):
            own = training_seeds(seed, 1, generation)
            self.envs = [make_env(FORK, own) for _ in range(number)]
            self.spec, self.num_envs = self.envs[0].spec, number

        def reset(self):
            return np.concatenate([env.reset() for env in self.envs])

        def step(self, action):
            steps = [env.step(a[None]) for env, a in zip(self.envs, action, strict=True)]
            return type(steps[0])(*(np.concatenate(x) for x in zip(*steps, strict=True)))

        def close(self):
            pass

    try:
        return train_online(
            agent, config, group, stack_runs([start] * number), [store] * number,
            [labels] * number, emphases, Same, None, tick, assign,
        )  # fmt: skip
    finally:
        group.close()


def same(left, right):
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


FLAT = dataclasses.replace(T_PER, power=0.0)
UNBALANCED = TrajectoryEmphasis("balanced", tau=1.0)
EMPHASES = [
    RunEmphasis(),
    RunEmphasis(FLAT, UNIFORM),
    RunEmphasis(FLAT, FLAT),
    RunEmphasis(UNBALANCED, UNBALANCED),
    RunEmphasis(FLAT, UNBALANCED),
    RunEmphasis(T_PER, UNIFORM),
]


@pytest.fixture(scope="module")
def played(data, tmp_path_factory):
    """A group of runs of these, and the programs that ran."""
    made = []
    before = programs.OnlinePrograms.__init__

    def watch(self, *arguments):
        before(self, *arguments)
        made.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs.OnlinePrograms, "__init__", watch)
        state = run(data, tmp_path_factory.mktemp("played"), EMPHASES)
    return state, made[0]


def test_draws_of_no_sharpness_are_the_plain_run_bit_for_bit(played):
    state, _ = played
    agents = [take_run(state.agent, i) for i in range(len(EMPHASES))]
    stores = [take_run(state.store, i) for i in range(len(EMPHASES))]
    for other in (1, 2, 3, 4):
        assert same(agents[0], agents[other]), EMPHASES[other]
        assert same(stores[0], stores[other])
    assert not same(agents[0].critics, agents[5].critics)


def test_each_program_is_traced_once(played):
    counts = {"plan": 1, "append": 1, "rank": 1, "update": 1, "score_all": 1}
    assert played[1].traces == counts


def test_the_store_holds_what_was_played(played):
    store = take_run(played[0].store, 0)
    new = np.flatnonzero(np.asarray(store.new))
    assert int(store.length[new].sum()) == ONLINE.online_steps
    env = make_env(FORK, training_seeds(7, 1, 0))
    seen = env.reset()
    first = int(store.offset[new[0]])
    for t in range(int(store.length[new[0]])):
        np.testing.assert_array_equal(store.observation[first + t], seen[0])
        step = env.step(np.asarray(store.action[first + t])[None])
        np.testing.assert_array_equal(store.observation[first + t + 1], step.next_observation[0])
        assert float(store.reward[first + t]) == step.reward[0]
        seen = step.observation


def test_a_resumed_run_equals_one_that_was_never_interrupted(data, tmp_path):
    emphases = [RunEmphasis(T_PER, TrajectoryEmphasis("balanced")), RunEmphasis()]
    whole = run(data, tmp_path / "whole", emphases)
    killed = tmp_path / "killed"

    class KillError(Exception):
        pass

    def killing(step, note=""):
        if step == 80:
            raise KillError

    with pytest.raises(KillError):
        run(data, killed, emphases, tick=killing)
    assert RunFolder(killed / "0").status()["step"] == 60
    again = run(data, killed, emphases)
    assert same(whole, again)
    for i in "01":
        rows = [read_rows(tmp_path / place / i / "metrics.jsonl") for place in ("whole", "killed")]
        clock = ("seconds", "frames_per_s", "updates_per_s")
        kept = [[{k: v for k, v in r.items() if k not in clock} for r in own] for own in rows]
        assert kept[0] == kept[1]


def test_new_trajectories_are_assigned_to_clusters_as_they_end(data, tmp_path):
    seen = []

    def assign(run, observations):
        seen.append((run, observations))
        return 1

    kept = RunEmphasis(TrajectoryEmphasis("balanced"), TrajectoryEmphasis("balanced"))
    state = run(data, tmp_path, [kept, RunEmphasis()], assign=assign)
    labels = np.asarray(state.labels)[:, len(data) :]
    ended = [sum(r == i for r, _ in seen) for i in range(2)]
    assert (labels == 1).sum(1).tolist() == ended
    store = take_run(state.store, 0)
    own = next(o for r, o in seen if r == 0)
    first = int(store.offset[len(data)])
    np.testing.assert_array_equal(store.observation[first : first + len(own)], own)


def test_backward_draws_begin_at_the_ends_of_trajectories(data, tmp_path):
    walk = DrawSettings(backward="walk")
    config = dataclasses.replace(ONLINE, online_steps=60, draws=walk, log_interval=5)
    run(data, tmp_path, [RunEmphasis()], config)
    rows = read_rows(tmp_path / "0" / "metrics.jsonl")
    starts = [row["ptr/sample_online/rel_start_mean"] for row in rows]
    assert starts[0] > 0.85
    assert starts[-1] < starts[0] - 0.05


def test_t_per_asks_for_a_start(data):
    with pytest.raises(ValueError, match=r"T-PER would never start: ptr_warmup_steps = 200"):
        dataclasses.replace(ONLINE, ptr_warmup_steps=200)
    with pytest.raises(ValueError, match="metric is one of td_error_rank, .*got 'td_eror'"):
        TrajectoryEmphasis("rank", metric="td_eror")


def test_the_start_of_training_waits(data, tmp_path):
    config = dataclasses.replace(ONLINE, start_training=60)
    run(data, tmp_path, [RunEmphasis()], config)
    rows = read_rows(tmp_path / "0" / "metrics.jsonl")
    learned = [row["step"] for row in rows if "online_agent/q_mean" in row]
    assert learned == [80, 100, 120]
    assert jnp.isfinite(rows[-1]["online_agent/td_error_abs_max"])
