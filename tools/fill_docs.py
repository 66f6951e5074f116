"""Fill the generated tables of README and docs from ``results/``; ``--check`` only compares.

A block starts with ``<!-- results:STUDY/PRESET -->`` and ends with ``<!-- /results -->``; what lies
between is made from that folder's ``raw.jsonl`` and is not written by hand. ``STUDY/PRESET#tails``
has the comparisons of tails only, and ``benchmarks/NAME`` is made from what the benchmark of that
name wrote.
A block without such a file is left as it is.
"""

import json
import re
import sys
from pathlib import Path

from steelyard.reports import load_records, load_spec, summarise
from steelyard.reports.tables import results_markdown, tails_markdown

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(
    r"<!-- results:(?P<place>[\w/.-]+)(?P<part>#tails)? -->\n.*?<!-- /results -->", re.DOTALL
)
PEERS = ("direct", "direct_context", "single_track", "one_step", "naive")
"""Arms of the car study that stand beside ``mujoco.sysid``."""


def filled(text: str, results: Path = ROOT / "results") -> str:
    """The text with every block made anew whose results are there."""

    def block(match: re.Match) -> str:
        folder, part = results / match["place"], match["part"] or ""
        if match["place"] in BENCHMARKS and (results / BENCHMARKS[match["place"]][0]).exists():
            table = BENCHMARKS[match["place"]][1](results)
        elif (folder / "raw.jsonl").exists():
            summary = summarise(
                load_records(folder / "raw.jsonl"), load_spec(folder / "report_spec.json")
            )
            table = tails_markdown(summary) if part else results_markdown(summary)
        else:
            return match[0]
        head = f"<!-- results:{match['place']}{part} -->"
        return f"{head}\n\n{table.strip()}\n\n<!-- /results -->"

    return BLOCK.sub(block, text)


def sysid_table(results: Path) -> str:
    """``mujoco.sysid`` on fold 2 of DART beside the runs of ``car/quick`` on the same fold."""
    fold = json.loads((results / "benchmarks" / "car_sysid.json").read_text())["dart-2"]
    records = load_records(results / "car" / "quick" / "raw.jsonl")
    groups = list(fold["scores"])
    found = {"mujoco.sysid": {g: _at(fold["scores"][g]["fitted"]) for g in groups}}
    for record in records:
        group = str(record.axes["data"]).removeprefix("dart ")
        if record.arm in PEERS and record.seed == 2 and group in groups:
            ends = [record.metric(name) for name in ("fde_1s", "fde_2s")]
            found.setdefault(record.arm, {})[group] = ends
    head = ["m", *(f"{group}, {s} s" for group in groups for s in (1, 2))]
    rows = [[name, *(f"{x:.3f}" for group in groups for x in found[name][group])] for name in found]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


JUDGED = {
    "variance_ratio": ("Variance", 2),
    "bias": ("Bias, s.e.", 1),
    "agreement": ("Agreement", 2),
    "batch_agreement": ("Of batches", 2),
    "flips_auroc": ("Flips", 2),
    "update_score": ("Updates", 2),
}
"""Columns of the judging of scores: heading and decimals."""


def judging_table(results: Path) -> str:
    """Means over seeds of what scores were worth before any curve, a table a task."""
    place = results / "benchmarks" / "score_judging" / "raw.jsonl"
    lines = [json.loads(line) for line in place.read_text().splitlines()]
    blocks = []
    for task in dict.fromkeys(line["task"] for line in lines):
        own = [line for line in lines if line["task"] == task]
        rows = [["Arm", *(heading for heading, _ in JUDGED.values())]]
        rows.append(["---", *["---:"] * len(JUDGED)])
        for arm in own[0]["arms"]:
            cells = [arm]
            for name, (_, decimals) in JUDGED.items():
                found = [line["arms"][arm][name] for line in own if name in line["arms"][arm]]
                mean = sum(found) / len(found) if found else None
                cells.append("–" if mean is None else f"{mean:.{decimals}f}")
            rows.append(cells)
        rates = ", ".join(f"{line['success_rate']:.2f}" for line in own)
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        blocks.append(f"{task}; success of the judged rollouts {rates}:\n\n{table}")
    return "\n\n".join(blocks)


def draws_table(results: Path) -> str:
    """What draws of trajectories cost, and an update beside the QC implementation."""
    found = json.loads((results / "benchmarks" / "acfql_cost.json").read_text())
    rows = [["Trajectories", "From ready tables, ms", "With tables and ranks, ms"]]
    rows.append(["---:"] * 3)
    for row in found["sampler"]:
        cells = (row["ready_ms"], row["with_ranks_ms"])
        rows.append([f"{row['trajectories']:,}", *(f"{x:.3f}" for x in cells)])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    ratios = f"one update a call × {found['ratio_1']:.2f}, in a scan × {found['ratio_scan']:.2f}"
    return f"{table}\n\nTime of QC's update over ours, median of rounds: {ratios}."


def steps_table(results: Path) -> str:
    """Success of CPL after so many gradient steps, by its bias, and held-out accuracy."""
    found = json.loads((results / "benchmarks" / "cpl_steps.json").read_text())
    blocks = []
    for task, curves in found["tasks"].items():
        biases = [name for name in curves if name != "0"]
        steps = [point["step"] for point in curves[biases[0]]]
        rows = [["λ", "", *(f"{step}" for step in steps)]]
        rows.append(["---", "---", *["---:"] * len(steps)])
        for bias in biases:
            for name, title in (("success", "success"), ("heldout_accuracy", "held-out acc.")):
                rows.append([bias, title, *(f"{p[name]:.2f}" for p in curves[bias])])
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        blocks.append(f"{task}; pretrained {curves['0']['success']:.2f}:\n\n{table}")
    seeds = ", ".join(map(str, found["seeds"]))
    told = f"Means over seeds {seeds}, {found['episodes']} starts each: `{found['command']}`."
    return "\n\n".join([*blocks, told])


SCORES = {"episode_return": 1, "f1": 3, "f1_micro": 3, "onset_f1": 3}
"""Columns of a pianist's scores, and decimals."""


def twinkle_table(results: Path) -> str:
    """SAC's checkpoints on a song, and what judgements made of the last one."""
    found = json.loads((results / "benchmarks" / "piano_twinkle.json").read_text())
    rows = [["Policy", "Frames", "Wall time, s", "Return", "F1", "F1 micro", "F1 of onsets"]]
    rows.append(["---", *["---:"] * 6])
    for own in found["sac"]["policies"]:
        if "noise" not in own["policy"]:
            told = ["–" if own[n] is None else f"{own[n]:,.0f}" for n in ("frames", "seconds")]
            rows.append([own["policy"], *told, *(f"{own[k]:.{d}f}" for k, d in SCORES.items())])
    tuned = [["CPL", "Return", "F1", "F1 micro", "F1 of onsets", "Change of action"]]
    tuned.append(["---", *["---:"] * 5])
    cpl = found["cpl"]
    scores = [("before", "before", cpl["runs"][0])]
    scores += [(f"{run['steps']} updates", "after", run) for run in cpl["runs"]]
    for title, side, run in scores:
        cells = [f"{run[f'{side}/{name}']:.{d}f}" for name, d in SCORES.items()]
        jerk = cpl["jerk"]["before" if side == "before" else str(run["steps"])]
        tuned.append([title, *cells, f"{jerk:.4f}"])
    first, second = ("\n".join(f"| {' | '.join(r)} |" for r in t) for t in (rows, tuned))
    return (
        f"{first}\n\nSeed {found['sac']['seed']}; {found['sac']['note']}: "
        f"`{found['sac']['command']}`.\n\n{second}\n\n{cpl['ratings']} ratings, {cpl['pairs']} "
        f"pairs, {cpl['ties']} ties: {cpl['judge']}. Change of action: mean square from one step "
        "to the next, smaller is smoother."
    )


def peers_table(results: Path) -> str:
    """Ours beside other libraries: a table of ratios, then what each row was measured with."""
    found = json.loads((results / "benchmarks" / "peers" / "summary.json").read_text())
    table = [["Row", "Measure", "Ours", "Peer", "Ratio, or difference of scores"], ["---"] * 5]
    notes = []
    for row in found["rows"].values():
        for line in row["lines"]:
            ours, peer = (_spread(line[f"{x}_value"], line["digits"]) for x in ("ours", "peer"))
            if "ratio" in line:
                verdict = f"× {_spread(line['ratio'], 2)}"
            else:
                verdict = _spread(line["difference"], 2, "+")
            sides = [f"{line['ours']}: {ours}", f"{line['peer']}: {peer}"]
            table.append([row["title"], line["measure"], *sides, verdict])
        for title, reason in row["absent"].items():
            table.append([row["title"], "–", "–", title, f"not measured: {reason}"])
        machine = row["hardware"]
        cores = f", {machine['cores']} cores" if "cores" in machine else ""
        versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
        notes.append(
            f"- **{row['title']}**: `{row['command']}` on {machine['cpu']}{cores}. The same: "
            f"{row['same']}. What differs: {row['differs']}. {versions}"
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table) + "\n\n" + "\n".join(notes)


def _spread(value: dict[str, float], digits: int, sign: str = "") -> str:
    """Median and, where they differ from it, extremes."""
    texts = [f"{value[key]:{sign},.{digits}f}" for key in ("median", "low", "high")]
    return texts[0] if len(set(texts)) == 1 else f"{texts[0]} ({texts[1]} to {texts[2]})"


def kills_table(results: Path) -> str:
    """Kills of each study, and what of it was left different."""
    found = json.loads((results / "benchmarks" / "kills.json").read_text())
    columns = ("kills", "before_writes", "rounds", "differences", "lost", "left_over", "failed")
    rows = [[name, *(str(tally[c]) for c in columns)] for name, tally in found["loops"].items()]
    total = [str(sum(tally[c] for tally in found["loops"].values())) for c in columns]
    head = ["Study", "Kills", "Before a write", "Runs to the end", "Differences"]
    head += ["Files lost", "Left over", "Failed"]
    lines = [head, ["---", *(["---:"] * len(columns))], *rows, ["**all**", *total]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n`{found['command']}`"


def fuzz_table(results: Path) -> str:
    """What became of damaged files, by reader."""
    found = json.loads((results / "benchmarks" / "fuzz.json").read_text())
    rows = [["Reader", "Inputs", "Read", "Refused", "Findings"], ["---", *["---:"] * 4]]
    total = [0, 0, 0, 0]
    for name, counts in found["targets"].items():
        inputs = sum(counts.values())
        read, refused = counts.get("read", 0), counts.get("refused", 0)
        row = [inputs, read, refused, inputs - read - refused]
        total = [a + b for a, b in zip(total, row, strict=True)]
        rows.append([name, *(f"{x:,}" for x in row)])
    rows.append(["**all**", *(f"**{x:,}**" for x in total)])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{table}\n\n`{found['command']}`, seed {found['seed']}, version {found['version']}."


def load_table(results: Path) -> str:
    """The labelling server under many annotators at once."""
    found = json.loads((results / "benchmarks" / "label_load.json").read_text())
    heads = ["Thought, s", "Answers", "Answers/s", "Next task, ms: p50 / p95 / p99"]
    rows = [[*heads, "Answer, ms: p50 / p95 / p99", "Lost", "Doubled", "Errors"]]
    rows.append(["---:"] * len(rows[0]))
    for run in found["runs"]:
        times = [" / ".join(f"{x:,.0f}" for x in run[k].values()) for k in ("task_ms", "answer_ms")]
        counts = (run["lost"], run["doubled"], run["errors"])
        first = [f"{run['think_s']:g}", f"{run['answers']:,}", f"{run['answers_per_s']:.0f}"]
        rows.append([*first, *times, *map(str, counts)])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    told = f"{found['annotators']} annotators, {found['segments']} segments, {found['hardware']}"
    return f"{table}\n\n{told}: `{found['command']}`. {found['note']}".strip()


def _at(scores: dict) -> list[float]:
    return [scores[f"fde_m {s}"]["mean"] for s in (1, 2)]


BENCHMARKS = {
    "benchmarks/car_sysid": ("benchmarks/car_sysid.json", sysid_table),
    "benchmarks/cpl_steps": ("benchmarks/cpl_steps.json", steps_table),
    "benchmarks/piano_twinkle": ("benchmarks/piano_twinkle.json", twinkle_table),
    "benchmarks/acfql_cost": ("benchmarks/acfql_cost.json", draws_table),
    "benchmarks/peers": ("benchmarks/peers/summary.json", peers_table),
    "benchmarks/kills": ("benchmarks/kills.json", kills_table),
    "benchmarks/fuzz": ("benchmarks/fuzz.json", fuzz_table),
    "benchmarks/label_load": ("benchmarks/label_load.json", load_table),
    "benchmarks/score_judging": ("benchmarks/score_judging/raw.jsonl", judging_table),
}
"""What is made from a benchmark's file, and how."""


def main(check: bool) -> int:
    """Fill or compare every page; returns the exit code."""
    stale = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text()
        new = filled(text)
        if new != text:
            stale.append(page.relative_to(ROOT))
            if not check:
                page.write_text(new)
    for page in stale:
        print(f"{page}: {'stale; run `make results`' if check else 'filled'}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
