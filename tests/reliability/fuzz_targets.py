"""Every reader of a file that can be damaged or a stranger's, with a valid sample for it.

A sample is written by the library's own writers and read as a user would: through the public
function, and far enough that what was read is used once.
"""

import contextlib
import dataclasses
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

TESTS = Path(__file__).resolve().parent.parent
sys.path += [str(TESTS / name) for name in ("data", "reports", "training")]

from demonstrations_examples import make_demonstrations  # noqa: E402
from motion_examples import circle, example_trajectories  # noqa: E402
from report_samples import SPEC as REPORT  # noqa: E402
from report_samples import record  # noqa: E402
from test_dart import HEADER  # noqa: E402
from test_mushr import first_version, third_version  # noqa: E402
from test_reference_car import FULL, NAME  # noqa: E402

from steelyard.agents.dynamics import (  # noqa: E402
    AdapterConfig,
    Dynamics,
    DynamicsConfig,
    ModelConfig,
    Scales,
    make_plant,
)
from steelyard.agents.sac import SACConfig  # noqa: E402
from steelyard.cli.label import _scores  # noqa: E402
from steelyard.cli.train_assembly import _defaults  # noqa: E402
from steelyard.data.dart import dart_trajectories  # noqa: E402
from steelyard.data.dart_files import read_dart_file  # noqa: E402
from steelyard.data.formats import load_demonstrations, save_demonstrations  # noqa: E402
from steelyard.data.inspection import inspect  # noqa: E402
from steelyard.data.judgement_files import read_comparisons, read_judgements  # noqa: E402
from steelyard.data.mushr import import_mushr  # noqa: E402
from steelyard.data.ogbench_files import read_columns, write_ogbench  # noqa: E402
from steelyard.data.segments import PlayedEpisodes, Segments, load_segments, save_segments  # noqa: E402
from steelyard.data.splits import random_split, read_split, write_split  # noqa: E402
from steelyard.data.standardise import (  # noqa: E402
    fit_standardisers,
    load_standardisers,
    save_standardisers,
)
from steelyard.data.trajectory_files import load_trajectories, save_trajectories  # noqa: E402
from steelyard.emphasis.trajectory_clusters import ClusterConfig, cluster_trajectories  # noqa: E402
from steelyard.emphasis.trajectory_features import POINT  # noqa: E402
from steelyard.envs.car.cache import read_chunk, write_chunk  # noqa: E402
from steelyard.envs.car.sets import CarRecording  # noqa: E402
from steelyard.evaluation.metrics_file import read_metrics  # noqa: E402
from steelyard.labelling import export as label_export  # noqa: E402
from steelyard.labelling.agreement import agreement  # noqa: E402
from steelyard.labelling.dataset import describe_film, film_path, open_dataset  # noqa: E402
from steelyard.labelling.records import Answer  # noqa: E402
from steelyard.labelling.select import Choosing  # noqa: E402
from steelyard.labelling.session import Session  # noqa: E402
from steelyard.labelling.store import Store  # noqa: E402
from steelyard.reports import dump_records, dump_spec  # noqa: E402
from steelyard.reports.freshness import regenerate  # noqa: E402
from steelyard.studies import get_study  # noqa: E402
from steelyard.studies.assembly.policies import load_base  # noqa: E402
from steelyard.studies.cells import Saved  # noqa: E402
from steelyard.studies.cells import load as load_study  # noqa: E402
from steelyard.studies.cells import save as save_study  # noqa: E402
from steelyard.studies.imitation.policies import load_policy as load_imitation  # noqa: E402
from steelyard.studies.offline2online.data import load_clusters, save_clusters  # noqa: E402
from steelyard.studies.piano.policies import load_policy as load_piano  # noqa: E402
from steelyard.studies.piano.policies import save_policy as save_piano  # noqa: E402
from steelyard.training.checkpoint import load_tree, save_tree  # noqa: E402
from steelyard.training.dynamics import loss_emphasis  # noqa: E402
from steelyard.training.dynamics_files import load_model, save_model  # noqa: E402
from steelyard.training.metrics import SinkOptions, read_rows  # noqa: E402
from steelyard.training.reference_car import load_reference_config  # noqa: E402
from steelyard.training.run_folder import RunFolder  # noqa: E402
from steelyard.training.sac_policies import (  # noqa: E402
    Network,
    SACPolicy,
    load_sac_policies,
)


@dataclasses.dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        name: Of the format.
        write: Makes a valid sample of a seed in an empty folder; returns what the reader is given.
        read: The reader, as a user calls it.
        share: Inputs relative to the other targets; less where a read is slow.
    """

    name: str
    write: Callable[[Path, int], Path]
    read: Callable[[Path], Any]
    share: float = 1.0


# Demonstrations


def demonstrations(format: str, suffix: str) -> Callable[[Path, int], Path]:
    def write(folder: Path, seed: int) -> Path:
        data = make_demonstrations((3, 1, 5), seed)
        return save_demonstrations(data, folder / f"sample{suffix}", format)

    return write


def read_demonstrations(path: Path) -> None:
    data = load_demonstrations(path)
    inspect(data)
    data.transitions()


# Motion


def trajectories(folder: Path, seed: int) -> Path:
    return save_trajectories(example_trajectories((4, 3, 5), seed), folder / "sample")


def split(folder: Path, seed: int) -> Path:
    data = example_trajectories((4, 3, 5, 4, 3), seed)
    return write_split(random_split(data, 1, 1, seed), data, folder / "split.json")


def standardisers(folder: Path, seed: int) -> Path:
    return save_standardisers(
        fit_standardisers(example_trajectories((9, 9), seed)), folder / "standardizers.json"
    )


def dart(folder: Path, seed: int) -> Path:
    rng, names = np.random.default_rng(seed), HEADER.split(",")
    rows = 60
    values = np.zeros((rows, len(names)))
    column = {name: values[:, i] for i, name in enumerate(names)}
    time = 1.7e9 + 0.01 * np.arange(rows)
    column["vicon time"][:] = time
    column["vicon x"][:] = 3.0 * (time - time[0])
    column["elapsed time sensors"][:] = 500 + np.arange(rows) // 10 * 0.1
    column["vel encoder"][:] = 3.0
    column["safety_value"][:] = 1.0
    column["throttle"][:] = rng.uniform(0.2, 0.4)
    values[:3, :10] = 0.0
    lines = [HEADER, *(",".join(f"{cell:.6f}" for cell in row) for row in values)]
    (folder / "drive.csv").write_text("\n".join(lines) + "\n")
    return folder / "drive.csv"


def mushr(write: Callable) -> Callable[[Path, int], Path]:
    def sample(folder: Path, seed: int) -> Path:
        write(folder / "raw")
        for path in (folder / "raw").iterdir():
            path.write_text("\n".join(path.read_text().splitlines()[2:12]) + "\n")
        return folder / "raw"

    return sample


def car_chunk(folder: Path, seed: int) -> Path:
    _, pose, twist = circle(states=5)
    one = CarRecording(twist, pose, np.zeros((4, 2)), np.full(4, 0.05), False, 0.9, f"kind{seed}")
    write_chunk(folder / "chunk.npz", [one, one])
    return folder / "chunk.npz"


def read_car_chunk(path: Path) -> None:
    if not read_chunk(path, 0.05):
        raise ValueError(f"{path}: no recordings")


# Segments and judgements


def segments_of(seed: int, count: int = 3, steps: int = 2) -> Segments:
    rng = np.random.default_rng(seed)
    numbers = lambda *shape: rng.uniform(-1, 1, shape).astype(np.float32)  # noqa: E731
    never = np.zeros((count, steps), bool)
    played = PlayedEpisodes(np.arange(count), numbers(count, 4, 1), np.full(count, 4))
    return Segments(
        "Pendulum-v1", {"a": 1}, 0.05, numbers(count, steps, 3), numbers(count, steps, 1),
        numbers(count, steps), never, never, ~never, never, numbers(count, steps),
        numbers(count, 3), np.arange(count), np.zeros(count, int), np.zeros(count, int),
        np.zeros(count, np.float32), ("a", "b"), played,
    )  # fmt: skip


def segments(folder: Path, seed: int) -> Path:
    return save_segments(folder / "sample", segments_of(seed))


def exported(folder: Path, seed: int) -> Path:
    place = folder / "sample" / "export"
    place.mkdir(parents=True)
    ratings = [
        {"segment": i, "rating": 1 + i % 5, "scale": 5, "annotator": "ana", "created": "2026"}
        for i in range(4)
    ]
    pairs = [
        {
            "a": i,
            "b": i + 1,
            "label": 0.5 * (i % 3),
            "strength": 0.5,
            "annotator": "bo",
            "both_bad": False,
            "created": "2026",
        }
        for i in range(4)
    ]
    for name, rows in (("ratings", ratings), ("pairs", pairs)):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "sample"


def comparisons(folder: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    pieces = {
        f"{name}_{side}": rng.normal(size=(3, 2, n)).astype(np.float32)
        for name, n in (("obs", 3), ("action", 1))
        for side in (1, 2)
    }
    np.savez(folder / "pairs.npz", label=np.array([0.0, 1.0, 0.5]), **pieces)
    return folder / "pairs.npz"


def scores(folder: Path, seed: int) -> Path:
    label_dataset(folder, seed)
    np.savez(folder / "scores.npz", score=np.random.default_rng(seed).normal(size=(6, 2)))
    return folder / "scores.npz"


def read_scores(path: Path) -> None:
    _scores(path, open_dataset(path.parent / "sample"))


WEBM = b"\x1a\x45\xdf\xa3webm" + b"\x23\xe3\x83\x84\x02\xfa\xf0\x80" + b"A_OPUS" + bytes(40)


def label_dataset(folder: Path, seed: int) -> Path:
    (folder / "sample" / "videos").mkdir(parents=True)
    entries = [
        {"id": i, "episode": i, "window": 0, "start_time": 0.0, "duration": 2.0, "checkpoint": "a",
         "noise_scale": 0.0, "video_path": f"videos/{i}.webm"}
        for i in range(6)
    ]  # fmt: skip
    info = {
        "schema": 1,
        "env": "e",
        "control_timestep": 0.05,
        "sha256": f"{seed % 10}" * 64,
        "segments": entries,
    }
    (folder / "sample" / "segment_info.json").write_text(json.dumps(info))
    for i in range(6):
        (folder / "sample" / "videos" / f"{i}.webm").write_bytes(WEBM + bytes([i, seed % 256]))
    return folder / "sample"


def read_label_dataset(path: Path) -> None:
    dataset = open_dataset(path)
    for clip in dataset.filmed():
        film = film_path(dataset.folder, clip.clip)
        assert film is not None
        assert film.resolve().is_relative_to(path.resolve())
        describe_film(film)


def judged(folder: Path, seed: int) -> Path:
    path = label_dataset(folder, seed)
    dataset = open_dataset(path)
    store = Store.open(path, dataset.sha256)
    session = Session(dataset, store, Choosing("pair", 0))
    for number in range(6):
        task = session.tasks("ana")[0]
        store.judge(
            "ana",
            Answer(
                f"{number:08d}",
                task.id,
                ("left", "tie", "skip")[number % 3],
                int(number % 3 == 0),
                900,
                1.0,
                1.0,
            ),
        )
    store.undo("ana", 6)
    store.save_settings({"mode": "pair"})
    store.close()
    (path / "labels.sqlite.lock").unlink()
    return path


def read_store(path: Path) -> None:
    dataset = open_dataset(path)
    with contextlib.closing(Store.open(path, dataset.sha256, read_only=True)) as store:
        store.settings()
        events = store.judgements()
        agreement(events, "pair", 0)
        label_export.pair_rows(events)


def serve_store(path: Path) -> None:
    dataset = open_dataset(path)
    with contextlib.closing(Store.open(path, dataset.sha256)) as store:
        session = Session(dataset, store, Choosing("pair", 0))
        tasks = session.tasks("ana")
        for task in tasks:
            session.describe(task)
        if tasks:
            store.judge("ana", Answer("f" * 8, tasks[0].id, "left", 1, 900, 1.0, 1.0))
        session.progress("ana")
        session.history("ana", 20)


def label_log(folder: Path, seed: int) -> Path:
    path = judged(folder, seed)
    with contextlib.closing(Store.open(path, open_dataset(path).sha256)) as store:
        rows = [label_export.judgement_row(event) for event in store.judgements()]
    for old in path.glob("labels.sqlite*"):
        old.unlink()
    (folder / "judgements.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "judgements.jsonl"


def read_label_log(path: Path) -> None:
    from steelyard.cli.label import main

    with contextlib.redirect_stdout(io.StringIO()):
        main(["label", "import", str(path.parent / "sample"), str(path)])


# Runs


def checkpoint(folder: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    tree = {
        "w": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32),
        "step": jnp.asarray(seed, jnp.int32),
    }
    save_tree(folder / "state_7.safetensors", tree, {"a": "b"})
    return folder / "state_7.safetensors"


def read_checkpoint(path: Path) -> None:
    load_tree(path, {"w": jnp.zeros((3, 4)), "step": jnp.asarray(0, jnp.int32)})


def run_folder(folder: Path, seed: int) -> Path:
    run = RunFolder(folder / "run").open({"study": "s", "seed": seed, "config": {"rate": 0.1}})
    run.set_status("running", step=10, seconds=1.5, checkpoint="state_10", generation=1)
    run.metrics.write_text("".join(json.dumps({"step": i, "loss": 0.5}) + "\n" for i in range(4)))
    return folder / "run"


def read_run_folder(path: Path) -> None:
    run = RunFolder(path)
    status = run.status()
    int(status.get("step", 0))
    float(status.get("seconds") or 0)
    config = run.read("config.json")
    if config is not None:
        run.open(config)
    max((row["step"] for row in read_rows(run.metrics)), default=0)


def model(folder: Path, seed: int) -> Path:
    small = {
        "hidden_dims": (4,),
        "residual_hidden": (4,),
        "control_adapter": AdapterConfig(hidden=(4,)),
    }
    config = DynamicsConfig(model=ModelConfig(type="direct", **small))
    scales = Scales(*(jnp.linspace(0.5, 1.5, n) for n in (3, 3, 2, 2, 3)))
    plant = make_plant(config.model, VEHICLE(), "velocity")
    learner = Dynamics.create(
        jax.random.key(seed), config, plant, scales, loss_emphasis(config), num_trajectories=3
    )
    return save_model(folder / "best.safetensors", learner)


def VEHICLE() -> Any:
    from steelyard.numerics.vehicle import MUSHR

    return MUSHR


SAC_SMALL = SACConfig(hidden=(4,), batch_size=8)


def sac_policy(seed: int) -> SACPolicy:
    from steelyard.envs.registry import env_spec

    return SACPolicy.create(jax.random.key(seed), env_spec("Pendulum-v1"), SAC_SMALL)


def sac_run(folder: Path, seed: int) -> Path:
    from steelyard.training.off_policy import OffPolicyConfig
    from steelyard.training.recipes import SACRun

    run = SACRun("Pendulum-v1", SAC_SMALL, OffPolicyConfig())
    opened = RunFolder(folder / "run").open(
        {
            "study": "train_sac",
            "arm": "expert",
            "seed": seed,
            "config": {"kind": "Expert", "run": _plain(run)},
        }
    )
    opened.set_status("done")
    save_tree(opened.checkpoints / "checkpoint_000010.safetensors", sac_policy(seed))
    return folder / "run"


def imitation_run(folder: Path, seed: int) -> Path:
    from steelyard.agents.bc import BC, BCConfig
    from steelyard.data.normalisation import Normaliser
    from steelyard.envs.registry import env_spec
    from steelyard.training.recipes import BCRun

    run, spec = BCRun("Pendulum-v1", BCConfig(hidden=(4,))), env_spec("Pendulum-v1")
    opened = RunFolder(folder / "run").open(
        {
            "study": "train_bc",
            "arm": "bc",
            "seed": seed,
            "config": {"kind": "Imitator", "run": _plain(run)},
        }
    )
    opened.set_status("done")
    agent = BC.create(
        jax.random.key(seed), spec, run.agent, Normaliser.identity(spec.observation_size), 1
    )
    save_tree(opened.checkpoints / "bc_policy_seed0.safetensors", agent)
    return folder / "run"


def base_run(folder: Path, seed: int) -> Path:
    import equinox as eqx

    from steelyard.agents.chunked_bc import ChunkedBCConfig
    from steelyard.studies.assembly import policies
    from steelyard.training.base_policy import BaseRun

    run = BaseRun("assembly/PegPlane-v0", ChunkedBCConfig(hidden=(4,)))
    opened = RunFolder(folder / "run").open(
        {
            "study": "a",
            "arm": "base",
            "seed": seed,
            "config": {"kind": "Cloned", "run": _plain(run)},
        }
    )
    shapes = policies._base_template(run)
    tree = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x, shapes
    )
    assert eqx.is_array(jax.tree.leaves(tree)[0])
    save_tree(opened.path / policies.BASE_FILE, tree)
    return folder / "run"


def piano_run(folder: Path, seed: int) -> Path:
    run = RunFolder(folder / "run").open({"study": "piano"})
    policy = sac_policy(seed)
    save_piano(run, Network("Pendulum-v1", (4,), "relu"), policy.actor, policy.normaliser)
    return folder / "run"


def _plain(value: Any) -> Any:
    from steelyard.training.run_folder import to_plain

    return to_plain(value)


def study_of(name: str) -> Callable[[Path, int], Path]:
    def write(folder: Path, seed: int) -> Path:
        config = get_study(name).configure("smoke")
        save_study(folder / "study", Saved(name, "smoke", f"command {seed}", SinkOptions(), config))
        return folder / "study"

    return write


def read_study(name: str) -> Callable[[Path], None]:
    return lambda path: load_study(path, get_study(name).config_type)


# Results


def records(folder: Path, seed: int) -> Path:
    dump_records(
        [record("expert", seed, 1.0), record("bc", seed, 0.5, 10), record("ipmd", seed, 0.7, 10)],
        folder / "raw.jsonl",
    )
    dump_spec(REPORT, folder / "report_spec.json")
    return folder / "raw.jsonl"


def read_records(path: Path) -> None:
    regenerate(path.parent, check=True)


def metrics(folder: Path, seed: int) -> Path:
    row = {"id": "run0", "traj_state_mse": 0.5, "ate_m": None, "diverged": True}
    content = {
        "experiment_dir": "a", "config_path": "b", "checkpoint_path": "c", "device": "cpu",
        "eval_run_name": "now", "eval_config": {"seed": seed}, "metrics": {"avg": 0.5},
        "speed": {"steps": 3}, "summary": {},
        "per_trajectory": [
            {**row, "horizons": {"1s": {"ate_m": 0.25, "diverged": False}}},
            {**row, "id": 7, "ate_m": 0.1, "diverged": False, "horizons": {}},
        ],
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(content))
    return folder / "metrics.json"


def read_metrics_file(path: Path) -> None:
    found = read_metrics(path)
    for horizon in (None, 1.0):
        with contextlib.suppress(ValueError):  # no trajectory has it: said without the file
            found.values("ate_m", horizon)
    list(found.ids)


# Configs of the command line


def reference_config(folder: Path, seed: int) -> Path:
    (folder / NAME).write_text(json.dumps({**FULL, "seed": seed}))
    return folder / NAME


def residual_config(folder: Path, seed: int) -> Path:
    (folder / "config.json").write_text(
        json.dumps(
            {"hidden": [4], "learning_rate_actor": 1e-3, "clip_coef": 0.2, "num_minibatches": 2}
        )
    )
    return folder / "config.json"


def clusters(folder: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    observations = [rng.normal(size=(6, 2)) for _ in range(6)]
    found = cluster_trajectories(observations, rng.normal(size=6), POINT, ClusterConfig(k=2), seed)
    save_clusters(folder / "clusters.npz", found)
    return folder / "clusters.npz"


def ogbench(folder: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    columns = {"observations": 4, "actions": 2, "qpos": 3, "qvel": 3}
    episodes = [
        {n: rng.uniform(-1, 1, (5, k)).astype(np.float32) for n, k in columns.items()}
        for _ in range(2)
    ]
    return write_ogbench(folder / "play.npz", episodes, False)


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("native", demonstrations("native", ""), read_demonstrations),
        Target("minari", demonstrations("minari", "-v0"), read_demonstrations, 0.14),
        Target("robomimic", demonstrations("robomimic", ".hdf5"), read_demonstrations, 0.086),
        Target("d4rl npz", demonstrations("d4rl", ".npz"), read_demonstrations, 0.28),
        Target("d4rl hdf5", demonstrations("d4rl", ".h5"), read_demonstrations, 0.14),
        Target("trajectories", trajectories, load_trajectories),
        Target("split", split, read_split),
        Target("standardisers", standardisers, load_standardisers),
        Target("dart", dart, lambda path: dart_trajectories(read_dart_file(path))),
        Target("mushr 1", mushr(first_version), import_mushr, 0.28),
        Target("mushr 3", mushr(third_version), import_mushr),
        Target("car cache", car_chunk, read_car_chunk),
        Target("ogbench", ogbench, lambda path: read_columns(path, buttons=False)),
        Target("segments", segments, load_segments, 0.17),
        Target("judgements", exported, read_judgements),
        Target("comparisons", comparisons, read_comparisons),
        Target("label data set", label_dataset, read_label_dataset),
        Target("label store", judged, read_store, 0.28),
        Target("label server", judged, serve_store, 0.086),
        Target("label import", label_log, read_label_log, 0.086),
        Target("label scores", scores, read_scores),
        Target("checkpoint", checkpoint, read_checkpoint),
        Target("run folder", run_folder, read_run_folder, 0.23),
        Target("dynamics model", model, load_model, 0.0085),
        Target("sac policies", sac_run, load_sac_policies, 0.057),
        Target("imitation policy", imitation_run, load_imitation, 0.029),
        Target("base policy", base_run, load_base, 0.029),
        Target("piano policy", piano_run, load_piano, 0.057),
        *(Target(f"study {name}", study_of(name), read_study(name))
          for name in ("imitation", "car", "assembly", "offline2online")),
        Target("study piano", study_of("piano"), read_study("piano"), 0.057),
        Target("records", records, read_records),
        Target("metrics file", metrics, read_metrics_file),
        Target("reference config", reference_config, load_reference_config),
        Target("residual config", residual_config, lambda path: _defaults(["--config", str(path)])),
        Target("clusters", clusters, load_clusters, 0.28),
    )
}  # fmt: skip


# Readers that do what none may, to show that each is seen


def _text(folder: Path, seed: int) -> Path:
    (folder / "planted.json").write_text("{}")
    return folder / "planted.json"


def _uncaught(path: Path) -> None:
    if "warm" not in str(path):
        raise KeyError("planted")


def _unnamed(path: Path) -> None:
    if "warm" not in str(path):
        raise ValueError("something is wrong")


def _acted(path: Path) -> None:
    if "warm" not in str(path):
        os.system("true")


def _escaped(path: Path) -> None:
    if "warm" not in str(path):
        # Not through Python's own open, as a library in C would do it.
        np.zeros(1).tofile(path.parent.parent.parent / "canary")


def _crash(path: Path) -> None:
    if "warm" not in str(path):
        os.kill(os.getpid(), signal.SIGSEGV)


PLANTED = {
    f"planted {name}": Target(f"planted {name}", _text, read)
    for name, read in (
        ("uncaught", _uncaught),
        ("unnamed", _unnamed),
        ("acted", _acted),
        ("escaped", _escaped),
        ("crash", _crash),
    )
}
