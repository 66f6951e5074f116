"""Demonstrations from other libraries' buffers."""

import dataclasses
import itertools

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from demonstrations_examples import SPEC, assert_same_arrays, make_demonstrations

from steelyard.data.external import (
    DemonstrationBuffer,
    DemonstrationSource,
    ExpertReplayBuffer,
    ExpertReplayManager,
    spec_of,
)
from steelyard.data.findings import DatasetError, DatasetNotFoundError
from steelyard.data.foreign import to_numpy
from steelyard.types import EnvSpec, RewardFreeTransition

PENDULUM = EnvSpec("Pendulum-v1", 3, (-2.0,), (2.0,), 200, False)
FIELDS = ("observation", "action", "terminated", "next_observation")


def batch_of(demonstrations) -> dict:
    """All steps as a nested dictionary, actions in environment units."""
    before = np.arange(demonstrations.num_steps) + demonstrations.step_episodes()
    return {
        "observation": demonstrations.observations[before],
        "action": demonstrations.actions,
        "next": {
            "observation": demonstrations.observations[before + 1],
            "terminated": demonstrations.terminations,
        },
    }


def assert_same_steps(left: RewardFreeTransition, right: RewardFreeTransition) -> None:
    assert type(left) is type(right) is RewardFreeTransition
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)


def assert_rows_come_from(drawn: RewardFreeTransition, whole: RewardFreeTransition) -> None:
    """Every drawn step is, in all its fields together, one of the steps."""
    rows = [tuple(np.concatenate([np.ravel(getattr(whole, f)[i]) for f in FIELDS]))
            for i in range(len(whole.action))]  # fmt: skip
    for i in range(len(drawn.action)):
        assert tuple(np.concatenate([np.ravel(getattr(drawn, f)[i]) for f in FIELDS])) in rows


# Torch is no dependency, so its tensors' protocol stands in here: what `.detach().cpu().numpy()`
# needs, and nothing that NumPy could read by itself.
class Tensor:
    def __init__(self, array):
        self._array = array

    def detach(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        return self._array

    def __array__(self, *_, **__):
        raise TypeError("a tensor that requires a gradient cannot be read by NumPy")


class TensorDict:
    """Items and keys as a tensordict has them, and no mapping."""

    def __init__(self, items):
        self._items = items

    def keys(self):
        return self._items.keys()

    def items(self):
        return self._items.items()


class TakesSize:
    def __init__(self, batch):
        self.batch, self.asked = batch, []

    def sample(self, batch_size):
        self.asked.append(batch_size)
        return {
            "observation": self.batch["observation"][:batch_size],
            "action": self.batch["action"][:batch_size],
            "next": {name: x[:batch_size] for name, x in self.batch["next"].items()},
        }


class FixedSize:
    def __init__(self, batch):
        self.batch = batch

    def sample(self):
        return self.batch


class Holder:
    def __init__(self, buffer):
        self.buffer = buffer


def tensor_dict(batch):
    return TensorDict(
        {k: tensor_dict(v) if isinstance(v, dict) else Tensor(v) for k, v in batch.items()}
    )


def steps_of(batch):
    return [
        {
            "observation": batch["observation"][i],
            "action": batch["action"][i],
            ("next", "observation"): batch["next"]["observation"][i],
            "terminated": batch["next"]["terminated"][i],
        }
        for i in range(len(batch["action"]))
    ]


def flat_keys(batch):
    return {
        "observation": batch["observation"],
        "action": batch["action"],
        "next_observation": batch["next"]["observation"],
        "terminated": batch["next"]["terminated"],
    }


TABLES = {
    "nested": lambda b: b,
    "flat": flat_keys,
    "tuple keys": lambda b: {
        ("observation",): b["observation"],
        "action": b["action"],
        ("next", "observation"): b["next"]["observation"],
        ("next", "terminated"): b["next"]["terminated"],
    },
    "tensordict": tensor_dict,
    "jax": lambda b: {key: jnp.asarray(x) for key, x in flat_keys(b).items()},
    "time axis": lambda b: {key: x[None] for key, x in flat_keys(b).items()},
    "lists": lambda b: {key: x.tolist() for key, x in flat_keys(b).items()},
    "steps": steps_of,
    "batches of unequal size": lambda b: [
        {key: x[part] for key, x in flat_keys(b).items()} for part in (slice(4), slice(4, None))
    ],
}
STREAMS = {
    "sample(batch_size)": TakesSize,
    "sample()": FixedSize,
    ".buffer.sample()": lambda b: Holder(FixedSize(b)),
    ".buffer.buffer.sample(n)": lambda b: Holder(Holder(TakesSize(b))),
    "iterator": lambda b: itertools.repeat(b),
    "iterable": lambda b: {"only": b}.values(),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_source_with_a_length_is_copied_whole_and_in_order(kind):
    demonstrations = make_demonstrations()
    buffer = ExpertReplayBuffer(TABLES[kind](batch_of(demonstrations)), env_spec=SPEC)
    assert buffer.can_materialise
    assert len(buffer) == 9
    assert_same_steps(buffer.as_transitions(), demonstrations.transitions())
    assert_rows_come_from(buffer.draw(5), demonstrations.transitions())


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("size", [4, 23])
def test_a_source_without_a_length_is_drawn_in_chunks_of_any_size(kind, size):
    demonstrations = make_demonstrations()
    buffer = ExpertReplayBuffer(STREAMS[kind](batch_of(demonstrations)), env_spec=SPEC)
    drawn = buffer.draw(size)
    assert drawn.action.shape == (size, 2)
    assert_rows_come_from(drawn, demonstrations.transitions())
    with pytest.raises(DatasetError, match=r"cannot be copied whole: use draw\(size\)"):
        buffer.as_transitions()


def test_what_a_fixed_size_source_gives_beyond_the_draw_is_kept_for_the_next():
    demonstrations = make_demonstrations()
    buffer = ExpertReplayBuffer(FixedSize(batch_of(demonstrations)), env_spec=SPEC)
    parts = [np.asarray(buffer.draw(size).action) for size in (4, 2, 12)]
    whole = np.asarray(demonstrations.transitions().action)
    np.testing.assert_array_equal(np.concatenate(parts), np.concatenate([whole, whole]))


def test_a_source_that_takes_a_size_is_asked_for_exactly_what_is_missing():
    source = TakesSize(batch_of(make_demonstrations()))
    ExpertReplayBuffer(source, env_spec=SPEC).draw(14)
    assert source.asked == [14, 5]


def test_demonstrations_themselves_are_a_source_that_knows_its_task():
    demonstrations = make_demonstrations()
    buffer = ExpertReplayBuffer(demonstrations)
    assert buffer.env_spec == SPEC
    assert_same_steps(buffer.as_transitions(), demonstrations.transitions())


def test_draws_are_the_same_for_the_same_seed_and_differ_for_another():
    demonstrations = make_demonstrations((20,))
    draws = [ExpertReplayBuffer(demonstrations, seed=s).draw(8).action for s in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert np.any(np.asarray(draws[0]) != np.asarray(draws[2]))


def test_our_buffers_satisfy_the_protocol_of_a_source():
    assert isinstance(DemonstrationBuffer(make_demonstrations()), DemonstrationSource)


def test_actions_are_normalised_by_the_task_and_left_alone_without_one():
    batch = batch_of(make_demonstrations())
    batch["action"] = SPEC.to_learner_units(batch["action"]).clip(-1, 1)
    bare = ExpertReplayBuffer(batch).as_transitions()
    named = ExpertReplayBuffer(batch, env_spec=SPEC, action_units="normalised").as_transitions()
    np.testing.assert_array_equal(bare.action, batch["action"])
    assert_same_steps(bare, named)


def test_a_single_action_component_may_come_without_its_axis():
    demonstrations = make_demonstrations(spec=PENDULUM)
    batch = batch_of(demonstrations)
    batch["action"] = batch["action"][:, 0]
    buffer = ExpertReplayBuffer(batch, env_spec=PENDULUM)
    assert_same_steps(buffer.as_transitions(), demonstrations.transitions())


# -- bad input -------------------------------------------------------------------------------------


def test_other_keys_give_those_found_those_needed_and_the_key_map():
    batch = batch_of(make_demonstrations())
    renamed = {"obs": batch["observation"], "act": batch["action"], "next": {"obs": 0}}
    with pytest.raises(DatasetError) as error:
        ExpertReplayBuffer(renamed).as_transitions()
    text = str(error.value)
    assert (
        "must give 'observation', 'action', ('next', 'observation') or 'next_observation'" in text
    )
    assert "missing ['observation', 'action', 'next_observation']" in text
    assert "found 'act', 'obs', ('next', 'obs')" in text
    assert "key_map={'observation': 'its_key'}" in text


def test_a_key_map_names_the_sources_own_keys():
    demonstrations = make_demonstrations()
    batch = batch_of(demonstrations)
    renamed = {
        "obs": batch["observation"],
        "act": batch["action"],
        "after": {"obs": batch["next"]["observation"], "dead": batch["next"]["terminated"]},
    }
    key_map = {
        "observation": "obs",
        "action": "act",
        "next_observation": ("after", "obs"),
        "terminated": ("after", "dead"),
    }
    buffer = ExpertReplayBuffer(renamed, key_map=key_map, env_spec=SPEC)
    assert_same_steps(buffer.as_transitions(), demonstrations.transitions())


def test_a_key_map_of_unknown_names_lists_the_legal_ones():
    batch = batch_of(make_demonstrations())
    with pytest.raises(DatasetError, match=r"unknown names \['obs'\]; legal: \['action'"):
        ExpertReplayBuffer(batch, key_map={"obs": "observation"}).as_transitions()


def test_terminations_are_needed_where_the_task_can_terminate_and_false_elsewhere():
    batch = batch_of(make_demonstrations())
    del batch["next"]["terminated"]
    with pytest.raises(DatasetError, match=r"missing \['terminated'\]"):
        ExpertReplayBuffer(batch, env_spec=SPEC).as_transitions()
    endless = dataclasses.replace(SPEC, can_terminate=False)
    steps = ExpertReplayBuffer(batch, env_spec=endless).as_transitions()
    assert not np.any(steps.terminated)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda b: {"action": b["action"][:-1]}, r"lengths must agree.*'action': 8"),
        (lambda b: {"action": b["action"][:, :1]}, r"\(3, 1\); Point-v1 has \(3, 2\)"),
        (lambda b: {"action": b["action"] * 9}, r"worst is episode 0, row \d, component \d"),
        (lambda b: {"observation": b["observation"] * np.nan}, "`observation` must be finite; row"),
        (lambda b: {"observation": b["next"]["observation"]}, "reference collector's off-by-one"),
        (lambda b: {"observation": b["observation"][:, :2]}, "must have one size; got 2 and 3"),
    ],
)
def test_batches_that_break_a_rule_are_refused(spoil, expected):
    batch = batch_of(make_demonstrations())
    with pytest.raises(DatasetError, match=expected):
        ExpertReplayBuffer(batch | spoil(batch), env_spec=SPEC).as_transitions()


def test_actions_beyond_one_without_a_task_ask_for_it():
    with pytest.raises(DatasetError, match=r"action_units=\"env\".*together with `env_spec=`"):
        ExpertReplayBuffer(batch_of(make_demonstrations())).as_transitions()


def test_env_units_without_a_task_are_refused_at_once():
    with pytest.raises(DatasetError, match="needs `env_spec=`"):
        ExpertReplayBuffer(batch_of(make_demonstrations()), action_units="env")


def test_an_iterator_that_runs_dry_says_so():
    buffer = ExpertReplayBuffer(iter([batch_of(make_demonstrations())]), env_spec=SPEC)
    buffer.draw(9)
    with pytest.raises(DatasetError, match="has run dry"):
        buffer.draw(1)


def test_a_source_of_empty_batches_ends_with_an_error():
    empty = {key: x[:0] for key, x in flat_keys(batch_of(make_demonstrations())).items()}
    with pytest.raises(DatasetError, match="empty batch"):
        ExpertReplayBuffer(FixedSize(empty), env_spec=SPEC).draw(2)


@pytest.mark.parametrize("size", [0, -1])
def test_a_draw_of_nothing_is_refused(size):
    with pytest.raises(DatasetError, match="at least 1; got"):
        ExpertReplayBuffer(make_demonstrations()).draw(size)


def test_what_is_no_source_lists_the_legal_ones():
    with pytest.raises(DatasetError, match=r"`\.sample\(size\)`.*got int"):
        ExpertReplayBuffer(7)


def test_arrays_of_objects_are_no_numbers():
    with pytest.raises(TypeError, match="must hold numbers; got list of object"):
        to_numpy([None, {}])


# -- the manager -----------------------------------------------------------------------------------


@pytest.fixture
def pendulum_dataset(tmp_path):
    demonstrations = make_demonstrations(spec=PENDULUM, terminated=(False,))
    demonstrations.save(tmp_path / "buffer")
    return tmp_path / "buffer", demonstrations


def test_the_references_snippet_runs_with_its_import_lines_changed(pendulum_dataset):
    path, demonstrations = pendulum_dataset
    env = gymnasium.make("Pendulum-v1")

    manager = ExpertReplayManager(
        buffer_dir=str(path),
        env=env,
        batch_size=256,
    )

    # Wrap in RLOpt's interface
    expert_buffer = ExpertReplayBuffer(manager)

    env.close()
    assert manager.sample()["action",].shape == (256, 1)
    assert_same_steps(expert_buffer.as_transitions(), demonstrations.transitions())
    assert_rows_come_from(expert_buffer.draw(7), demonstrations.transitions())


def test_a_manager_keeps_what_the_file_says_of_the_task(pendulum_dataset):
    env = gymnasium.make("Pendulum-v1")
    assert ExpertReplayManager(pendulum_dataset[0], env).env_spec == PENDULUM
    env.close()


def test_a_manager_opens_any_format_and_takes_the_bounds_from_the_environment(tmp_path):
    demonstrations = make_demonstrations(spec=PENDULUM, terminated=(False,))
    before = np.arange(demonstrations.num_steps) + demonstrations.step_episodes()
    np.savez(
        tmp_path / "bare.npz",
        observations=demonstrations.observations[before],
        actions=demonstrations.actions,
        next_observations=demonstrations.observations[before + 1],
        rewards=demonstrations.rewards,
        terminals=demonstrations.terminations,
        timeouts=demonstrations.truncations,
    )
    env = gymnasium.make_vec("Pendulum-v1", num_envs=2)
    manager = ExpertReplayManager(tmp_path / "bare.npz", env=env)
    env.close()
    assert_same_arrays(manager.demonstrations, demonstrations)


def test_a_manager_shows_spaces_that_differ_side_by_side(pendulum_dataset):
    with pytest.raises(DatasetError, match=r"dataset Pendulum-v1 +\| +environment Point-v1"):
        ExpertReplayManager(pendulum_dataset[0], env=SPEC)


def test_a_manager_without_an_environment_checks_nothing(pendulum_dataset):
    assert len(ExpertReplayManager(pendulum_dataset[0]).buffer) == 9


def test_a_manager_without_a_dataset_says_how_to_make_one(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="steelyard train sac"):
        ExpertReplayManager(buffer_dir=tmp_path / "Pendulum-v1", env=PENDULUM)


def test_an_environment_without_vector_spaces_is_refused():
    with pytest.raises(DatasetError, match=r"vector \(Box\) observations and actions"):
        spec_of(gymnasium.spaces.Discrete(3))


def test_a_spec_is_read_from_our_environments_and_gymnasiums():
    @dataclasses.dataclass
    class Ours:
        spec: EnvSpec

    assert spec_of(Ours(SPEC)) == SPEC
    env = gymnasium.make("Pendulum-v1")
    assert spec_of(env) == dataclasses.replace(PENDULUM, can_terminate=True)
    env.close()
