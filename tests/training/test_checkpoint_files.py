"""Trees and run folders on disk: what is written is what is read, whole or not at all."""

import dataclasses
import json
import math
import re
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from steelyard.training.checkpoint import load_tree, save_tree, stack_runs, take_run
from steelyard.training.run_folder import RunFolder, run_id, to_plain, write_json


class Net(eqx.Module):
    weights: Array
    count: Array
    seen: Array
    absent: Array | None
    name: str = eqx.field(static=True)


def net(fill: float, name: str = "net") -> Net:
    return Net(
        jnp.full((2, 3), fill, jnp.float32),
        jnp.asarray(7, jnp.int32),
        jnp.array([True, False]),
        None,
        name,
    )


def leaves(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_a_tree_is_read_as_it_was_written(tmp_path):
    tree = {"a": (net(1.5), net(-0.0)), "b": [jnp.zeros((0, 4))]}
    like = {"a": (net(0.0, "kept"), net(0.0)), "b": [jnp.ones((0, 4))]}
    save_tree(tmp_path / "deep" / "tree.safetensors", tree)
    loaded = load_tree(tmp_path / "deep" / "tree.safetensors", like)
    assert loaded["a"][0].name == "kept"
    for left, right in zip(leaves(tree), leaves(loaded), strict=True):
        assert left.dtype == right.dtype
        assert left.shape == right.shape
        assert left.tobytes() == right.tobytes()


def test_numbers_that_are_not_finite_survive(tmp_path):
    values = jnp.array([jnp.nan, jnp.inf, -jnp.inf, 1e-45])
    save_tree(tmp_path / "t", [values])
    (loaded,) = load_tree(tmp_path / "t", [jnp.zeros(4)])
    assert np.asarray(loaded).tobytes() == np.asarray(values).tobytes()


def test_nothing_but_the_file_remains_in_the_folder(tmp_path):
    for fill in (1.0, 2.0):
        save_tree(tmp_path / "t", net(fill))
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"a": jnp.zeros(3)}, "array \"['a']\" is float32[3], expected float32[2]"),
        ({"a": jnp.zeros(2, int)}, "array \"['a']\" is int32[2], expected float32[2]"),
        ({"b": jnp.zeros(2)}, "has no array \"['a']\"; it holds [\"['b']\"]"),
    ],
)
def test_an_array_of_another_shape_type_or_name_is_refused_with_both(stored, message, tmp_path):
    save_tree(tmp_path / "t", stored)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_tree(tmp_path / "t", {"a": jnp.zeros(2)})
    assert str(tmp_path / "t") in str(error.value)


def test_stacked_runs_are_taken_apart_again():
    runs = [net(1.0), net(2.0), net(3.0)]
    stacked = stack_runs(runs)
    assert stacked.weights.shape == (3, 2, 3)
    for index, run in enumerate(runs):
        for left, right in zip(leaves(run), leaves(take_run(stacked, index)), strict=True):
            np.testing.assert_array_equal(left, right)


@dataclasses.dataclass(frozen=True)
class Inner:
    step: float = math.inf


@dataclasses.dataclass(frozen=True)
class Config:
    sizes: tuple[int, ...] = (8, 8)
    inner: Inner = Inner()


def test_a_config_is_plain_values_and_its_kind():
    assert to_plain(Config()) == {
        "kind": "Config",
        "sizes": [8, 8],
        "inner": {"kind": "Inner", "step": "inf"},
    }


def test_a_run_is_named_by_its_config_and_nothing_else():
    assert run_id(Config()) == run_id(Config(sizes=(8, 8), inner=Inner()))
    assert re.fullmatch("[0-9a-f]{12}", run_id(Config()))
    others = [Config(sizes=(8,)), Config(inner=Inner(1.0)), Inner(), {"sizes": [8, 8]}]
    assert len({run_id(config) for config in [Config(), *others]}) == 5


def test_a_name_once_given_stays():
    # A change here orphans every run on disk: it must be meant.
    assert run_id(Config()) == "5b4384f12977"


def test_a_folder_opens_again_with_its_own_config_and_refuses_another(tmp_path):
    RunFolder(tmp_path / "run").open(Config())
    RunFolder(tmp_path / "run").open(Config())
    with pytest.raises(ValueError, match="holds a run of another config") as error:
        RunFolder(tmp_path / "run").open(Config(sizes=(9,)))
    assert str(tmp_path / "run") in str(error.value)
    assert RunFolder(tmp_path / "run").read("config.json")["sizes"] == [8, 8]


def test_a_new_folder_holds_config_versions_and_a_pending_status(tmp_path):
    folder = RunFolder(tmp_path / "run").open(Config(), parent="abc")
    assert folder.status()["state"] == "pending"
    assert folder.status()["parent"] == "abc"
    assert {"python", "jax", "steelyard"} <= set(folder.read("versions.json"))
    assert RunFolder(tmp_path / "none").status() == {"state": "missing"}


def test_status_keeps_what_it_is_not_told_but_an_error_goes_with_its_state(tmp_path):
    folder = RunFolder(tmp_path)
    folder.set_status("running", step=10, checkpoint="a")
    folder.set_status("failed", error="out of memory")
    assert folder.status()["error"] == "out of memory"
    assert folder.status()["step"] == 10
    folder.set_status("running", step=20)
    status = folder.status()
    assert (status["state"], status["step"], status["checkpoint"]) == ("running", 20, "a")
    assert "error" not in status


def test_json_holds_null_for_numbers_that_are_not_finite_and_appears_whole(tmp_path):
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"a": [1.0, math.nan, (math.inf,)], "b": {"c": 2}})
    assert json.loads(path.read_text()) == {"a": [1.0, None, [None]], "b": {"c": 2}}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]
