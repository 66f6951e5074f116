"""The offline-to-online study from end to end, at a size that takes seconds."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from small_study import quiet

from steelyard.emphasis.trajectory_clusters import ClusterConfig
from steelyard.reports import load_records, load_spec, summarise, write_report, write_results
from steelyard.studies.cells import Store
from steelyard.studies.engine import Options, run_study
from steelyard.studies.offline2online import STUDY, content_hash
from steelyard.studies.offline2online.arms import ALL, ARMS, PUBLISHED, REFERENCE
from steelyard.studies.offline2online.config import DRAWER, PRESETS, TUNING_SEEDS
from steelyard.studies.offline2online.data import load_clusters, open_prepared, store_of
from steelyard.studies.offline2online.execute import rotation
from steelyard.studies.offline2online.plan import DATA, OFFLINE, Data, plan_cells
from steelyard.studies.offline2online.policies import load_agent
from steelyard.training.metrics import read_rows
from steelyard.training.trajectory_metrics import DRAW_METRICS, PREFIX

NOWHERE = Store(Path("nowhere"), "offline2online")


def run(root, config):
    return run_study(STUDY, config, "smoke", "cmd", Options(root, executor="inline"), quiet)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, compiler):
    root = tmp_path_factory.mktemp("offline2online")
    config = STUDY.configure("smoke")
    folder = run(root, config)
    records, spec = STUDY.records(config, Store(root, "offline2online"), "smoke", "cmd")
    write_report(records, spec, folder)
    write_results(records, spec, folder)
    return root, config, folder


def cells_of(finished, *kinds):
    root, config, _ = finished
    store = Store(root, "offline2online")
    return [(c, store.folder(c)) for c in plan_cells(config) if c.arm.split()[0] in kinds]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_plans_runs_of_distinct_identity(preset):
    config = STUDY.configure(preset)
    STUDY.check(config, NOWHERE)
    cells = STUDY.plan(config, NOWHERE)
    assert len({c.id for c in cells}) == len(cells) > 0
    assert {c.arm for c in cells if c.parent is None} == {DATA}
    online = [c for c in cells if c.arm in ARMS]
    assert all(c.parent.arm.startswith(OFFLINE) for c in online)
    assert not {c.seed for c in cells} & set(TUNING_SEEDS)


def test_quick_has_the_arms_that_tell_why_and_enough_pairs_for_a_test():
    part = STUDY.configure("quick").press
    assert set(part.arms) == set(PUBLISHED) >= {*REFERENCE, "cluster_kept", "symmetric"}
    assert len(part.seeds) >= 6
    assert set(STUDY.configure("full").press.arms) == set(ALL)


def test_arms_share_data_and_offline_phases():
    cells = plan_cells(STUDY.configure("quick"))
    seeds = len(STUDY.configure("quick").press.seeds)
    count = {kind: sum(c.arm.startswith(kind) for c in cells) for kind in (DATA, OFFLINE)}
    assert count == {DATA: seeds, OFFLINE: 2 * seeds}
    parents = {c.arm: c.parent.id for c in cells if c.arm in ARMS and c.seed == 10}
    assert parents["acfql"] == parents["tper"] == parents["symmetric"]
    assert parents["cluster"] == parents["full"] == parents["cluster_kept"] != parents["acfql"]


def fields(value, prefix=""):
    """Every leaf of nested dataclasses by its path."""
    if dataclasses.is_dataclass(value):
        found = {}
        for field in dataclasses.fields(value):
            found |= fields(getattr(value, field.name), f"{prefix}{field.name}.")
        return found
    return {prefix: value}


@pytest.mark.parametrize(
    ("arm", "changed"),
    [
        ("recency", {"online.critic.metric."}),
        ("success_binary", {"online.critic.metric."}),
        ("avg_reward", {"online.critic.metric."}),
        ("tper_uncorrected", {"online.critic.corrected."}),
        ("tper_legacy", {"draws.priority_update."}),
        ("full_shared", {"draws.shared."}),
        ("backward", {"draws.backward."}),
        ("cluster_assigned", {"cluster_online."}),
        ("symmetric_critic", {"online.actor.weighting."}),
    ],
)
def test_controls_differ_from_their_parent_in_one_field(arm, changed):
    told = ("title.", "description.", "role.", "parent.", "agent.")
    one, parent = fields(ARMS[arm]), fields(ARMS[ARMS[arm].parent])
    assert {k for k in one if one[k] != parent[k] and k not in told} == changed


def test_other_arms_differ_where_they_say():
    base = ARMS["acfql"]
    for name in ("weighted_target", "qc", "acfql_k2", "acfql_k10", "fql_n"):
        assert ARMS[name].agent
        assert (ARMS[name].offline, ARMS[name].online) == (base.offline, base.online)
    kept, success = ARMS["cluster_kept"], ARMS["success_balanced"]
    pairs = zip(
        (kept.offline, kept.online.critic, kept.online.actor),
        (success.offline, success.online.critic, success.online.actor),
        strict=True,
    )
    for one, other in pairs:
        assert dataclasses.replace(one, labels="success") == other


def test_each_run_leaves_the_files_that_it_should(finished):
    for _, folder in cells_of(finished, DATA):
        names = {p.name for p in folder.path.iterdir()}
        assert {"data", "clusters.npz", "operators.json", "cluster_metrics.json"} <= names
        k = load_clusters(folder.path / "clusters.npz").k
        pictures = {p.name for p in (folder.path / "plots").iterdir()}
        stem = f"Fork-v0_kmeans_{k}"
        assert pictures == {f"{stem}_{part}.png" for part in ("cluster", "length", "choice")}
    for cell, folder in cells_of(finished, OFFLINE, *REFERENCE):
        names = {p.name for p in folder.path.iterdir()}
        offline = cell.arm.startswith(OFFLINE)
        own = {"offline_agent.csv"} if offline else {"online_agent.csv", "eval.csv", "env.csv"}
        assert own | {"flags.json", "metrics.csv", "result.json", "run.log"} <= names
        assert (folder.path / "flags.json").read_text() == (folder.path / "config.json").read_text()
        assert load_agent(folder.path).config == cell.config.agent


def test_every_metric_that_is_promised_is_logged(finished):
    cell, folder = cells_of(finished, "full")[0]
    rows = read_rows(folder.metrics)
    logged = {name for row in rows for name in row}
    assert {"eval/success_rate", "eval/success", "eval/length"} <= logged
    for name in ("q_mean", "td_error_mean", "td_error_abs_mean", "td_error_abs_max"):
        assert f"online_agent/{name}" in logged
    told = {name for name in logged if name.startswith(PREFIX)}
    assert told == {PREFIX + name for name in DRAW_METRICS}
    for name in DRAW_METRICS:
        values = [row[f"ptr/sample_online/{name}"] for row in rows if "online_agent/q_mean" in row]
        assert np.isfinite(values).all(), name
    parent = cells_of(finished, OFFLINE)[0][1]
    names = {n for row in read_rows(parent.metrics) for n in row}
    wanted = ("critic_loss", "actor_loss", "bc_flow_loss", "distill_loss", "q_mean", "q_std")
    assert {f"offline_agent/{n}" for n in wanted} <= names
    told = json.loads((cells_of(finished, DATA)[0][1].path / "cluster_metrics.json").read_text())
    assert {"k_used", "cluster/offline/ess", "cluster/offline/prob_0"} <= set(told)


def test_the_report_has_the_reference_s_figures_and_an_interval_for_each_arm(finished):
    root, config, folder = finished
    for name in ("ClusterSampling.png", "TDerrorSampling.png", "TDError+Cluster.png"):
        assert (folder / name).stat().st_size > 1_000
    summary = summarise(load_records(folder / "raw.jsonl"), load_spec(folder / "report_spec.json"))
    assert {arm.arm for arm in summary.arms} == set(REFERENCE)
    for arm in summary.arms:
        for metric in ("success", "offline_success", "online_area", "steps_to_half"):
            assert arm.means[metric] is not None
    page = (folder / "report.html").read_text()
    assert "Trajectory priorities" in page


def test_arms_of_a_seed_start_from_the_same_learner(finished):
    records, _ = STUDY.records(finished[1], Store(finished[0], "offline2online"), "smoke", "cmd")
    for seed in (0, 1):
        own = {r.arm: r.metrics["offline_success"] for r in records if r.seed == seed}
        assert own["acfql"] == own["tper"]
        assert own["cluster"] == own["full"]


def test_running_it_again_does_nothing(finished, capsys):
    root, config, _ = finished
    run(root, config)
    assert "0 groups to train" in capsys.readouterr().err


def test_segments_partition_the_starts(finished):
    _, folder = cells_of(finished, DATA)[0]
    prepared = open_prepared(folder.path)
    whole = store_of(prepared, None, 0)
    cut = store_of(prepared, 25, 0)
    assert cut.length.shape[0] > whole.length.shape[0]
    items = [zip(s.offset.tolist(), s.length.tolist(), strict=True) for s in (whole, cut)]
    rows = [sorted(r for o, n in own for r in range(o, o + n)) for own in items]
    assert rows[0] == rows[1]
    assert int(cut.length.sum()) == int(whole.length.sum())
    for horizon in (1, 5):
        assert int(cut.critic_starts(horizon).sum()) == int(whole.critic_starts(horizon).sum())
    assert int(cut.success.sum()) == int(whole.success.sum())


def test_rotation_is_the_same_in_all_arms(tmp_path):
    ogbench = pytest.importorskip("ogbench")
    from steelyard.data.ogbench_files import write_ogbench
    from steelyard.envs.ogbench import play_episode

    assert ogbench
    for part in range(3):
        episodes = [play_episode("cube-single", "play", 10 * part + s, 101).columns for s in (0, 1)]
        write_ogbench(tmp_path / f"part{part}.npz", episodes, False)
    env = "ogbench/cube-single-singletask-v0"
    source = Data(env, None, str(tmp_path), (), False, ClusterConfig(k=2, segment=20), 1.0)
    from steelyard.studies.offline2online.data import Prepared, cluster, load_part

    first = load_part(source, 0)
    clusters = cluster(first, source, 0)
    prepared = Prepared(first, clusters.labels, clusters)
    config = STUDY.configure("quick")
    part = dataclasses.replace(config.custom, env=env, regime=None, dataset=str(tmp_path))
    from steelyard.studies.offline2online.plan import offline_cell

    drawn = {}
    for arm in ("acfql", "cluster"):
        settings = offline_cell(part, {"task": "x"}, 0, ARMS[arm]).config
        interval, turn = rotation([settings], [prepared], source)
        assert interval == 1_000
        drawn[arm] = [turn(number)[0].store for number in range(1, 4)]
    for one, other in zip(*drawn.values(), strict=True):
        np.testing.assert_array_equal(one.observation, other.observation)
    stores = drawn["acfql"]
    assert not np.array_equal(stores[0].observation[:50], stores[1].observation[:50])


def test_one_task_of_the_study_is_run_by_its_name():
    assert {p.env for p in STUDY.configure("quick", DRAWER).parts().values()} == {DRAWER}
    other = STUDY.configure("quick", "robosuite/lift")
    assert {p.env for p in other.parts().values()} == {"robosuite/lift"}


def with_press(**changes):
    config = STUDY.configure("quick")
    return dataclasses.replace(config, press=dataclasses.replace(config.press, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": ("tpre",)}, r"There is no arm 'tpre'.*Did you mean 'tper'"),
        ({"arms": ("tper", "tper")}, "arms must be distinct"),
        ({"seeds": (1, 1)}, "seeds must be distinct"),
        ({"seeds": (-1,)}, "seeds must lie between 0 and"),
        ({"eval_episodes": 1}, "eval_episodes must be at least 2, got 1"),
        ({"offline_steps": 0}, "offline_steps and online_steps must be at least 1, got 0"),
        ({"regime": "conflcit"}, r"no regime 'conflcit'.*Did you mean 'conflict'"),
        ({"regime": "fork"}, "no operator 'through-b' of HandlePress-v3"),
        ({"regime": None}, "data are those of a regime or a dataset"),
        ({"env": "sparse/HandlePres-v3"}, "did you mean 'sparse/HandlePress-v3'"),
        ({"regime": None, "dataset": "/nowhere/x.npz"}, r"x.npz does not exist. Make one with"),
    ],
)
def test_bad_input_is_refused_before_any_work(changes, message):
    with pytest.raises(ValueError, match=message):
        STUDY.check(with_press(**changes), NOWHERE)


def test_what_is_legal_but_odd_is_said(capsys):
    part = STUDY.configure("quick").press
    agent = dataclasses.replace(part.agent, alpha=5_000.0)
    STUDY.check(with_press(agent=agent, arms=("acfql",)), NOWHERE)
    assert "alpha 5000 with normalize_q_loss clones the data" in capsys.readouterr().err


def test_a_dataset_that_has_changed_is_another_run(tmp_path):
    data = tmp_path / "a.npz"
    data.write_bytes(b"one")
    config = STUDY.configure("smoke")
    custom = dataclasses.replace(
        config.fork, env="ogbench/cube-single-singletask-v0", regime=None, dataset=str(data)
    )
    config = dataclasses.replace(config, custom=custom)
    pinned = STUDY.pin(config, NOWHERE)
    assert pinned.custom.sha256 == content_hash(data)
    ids = {c.id for c in plan_cells(pinned)}
    data.write_bytes(b"two")
    later = [c for c in plan_cells(STUDY.pin(config, NOWHERE)) if "ogbench" in c.axes["task"]]
    assert ids.isdisjoint({c.id for c in later})
