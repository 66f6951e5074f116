import dataclasses
import json
import random

import pytest
from report_samples import SPEC, record, study

from steelyard.reports import Arm, Comparison, summarise
from steelyard.reports.tables import summary_json
from steelyard.reports.words import caveats, evidence, headline, judge, number


def summary_dict(records, spec=SPEC):
    return json.loads(summary_json(summarise(records, spec)))


def comparison(content, arm, baseline, metric="score"):
    found = [
        c
        for c in content["comparisons"]
        if (c["arm"], c["baseline"], c["metric"]) == (arm, baseline, metric)
    ]
    assert len(found) == 1
    return found[0]


def test_summary_has_the_documented_form():
    content = summary_dict(study())
    assert {k: content[k] for k in ("study", "preset", "command", "seeds", "hardware")} == {
        "study": "imitation",
        "preset": "quick",
        "command": "steelyard study run imitation --preset quick",
        "seeds": [0, 1, 2, 3, 4],
        "hardware": "2 cores",
    }
    assert set(content["arms"]["bc"]) == {"return", "score", "gap_to_optimum"}
    assert set(content["arms"]["bc"]["score"]) == {"mean", "low", "high", "n"}
    keys = {"arm", "baseline", "metric", "difference", "low", "high", "paired"}
    assert all(keys <= set(c) for c in content["comparisons"])


def test_arms_at_different_axis_values_are_kept_apart():
    arms = summary_dict(study())["arms"]
    assert list(arms) == [
        "expert",
        "bc",
        "bc[demonstrations=1]",
        "ipmd",
        "ipmd[demonstrations=1]",
        "frozen",
    ]
    assert arms["bc"]["score"]["mean"] == pytest.approx(0.988)
    assert arms["bc[demonstrations=1]"]["score"]["mean"] == pytest.approx(0.402)
    assert arms["expert"]["score"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 5}


def test_differences_are_paired_by_seed_at_each_axis_value():
    content = summary_dict(study())
    one = comparison(content, "ipmd[demonstrations=1]", "bc[demonstrations=1]")
    ten = comparison(content, "ipmd", "bc")
    assert (one["difference"], one["low"], one["high"]) == pytest.approx((0.5, 0.5, 0.5))
    assert (ten["difference"], ten["verdict"], ten["wins"]) == (pytest.approx(-0.01), "worse", 0)
    assert one["paired"]
    assert one["verdict"] == "better"
    assert one["probability_of_improvement"]["mean"] == 1.0
    assert (one["n"], one["p_value"], one["least_p"]) == (5, None, 0.0625)


def test_a_lower_value_is_better_where_the_metric_says_so():
    gap = comparison(summary_dict(study()), "ipmd", "bc", "gap_to_optimum")
    assert gap["difference"] > 0
    assert (gap["verdict"], gap["wins"]) == ("worse", 0)
    assert gap["probability_of_improvement"]["mean"] < 0.5


def test_the_order_of_records_and_other_arms_change_no_number():
    records = study()
    shuffled = random.Random(0).sample(records, len(records))
    whole = summary_json(summarise(records, SPEC))
    assert summary_json(summarise(shuffled, SPEC)) == whole
    fewer = summary_dict([r for r in records if r.arm in ("bc", "ipmd")])
    assert fewer["arms"]["bc"] == json.loads(whole)["arms"]["bc"]
    assert fewer["iqm"]["ipmd"] == json.loads(whole)["iqm"]["ipmd"]


def test_six_pairs_are_tested_and_one_seed_claims_nothing():
    assert comparison(summary_dict(study(6)), "ipmd", "bc")["p_value"] == 0.03125
    single = summarise(study(1), SPEC)
    content = json.loads(summary_json(single))
    assert content["arms"]["bc"]["score"] == {"mean": 0.99, "low": None, "high": None, "n": 1}
    assert comparison(content, "ipmd", "bc")["verdict"] == "preliminary"
    assert headline(single)[0] == "IPMD against BC: too few seeds for a claim."
    assert any(text.startswith("One seed") for text in caveats(single))


def test_headline_says_the_method_is_worse_where_it_is():
    claim, proof = headline(summarise(study(), SPEC))
    assert claim == "IPMD is worse than BC."
    assert proof.startswith(
        "IPMD − BC = −0.010 [−0.010, −0.010] in score over 5 paired seeds; no test"
    )


def test_an_interval_that_holds_zero_shows_no_difference():
    records = [record("bc", s, 0.5, 10) for s in range(5)]
    records += [
        record("ipmd", s, 0.5 + d, 10) for s, d in enumerate((-0.1, 0.1, -0.05, 0.05, 0.01))
    ]
    found = summarise(records, SPEC)
    assert judge(found.primary_comparisons[0]) == "unclear"
    assert headline(found)[0] == "No difference shown between IPMD and BC."


def test_an_interval_without_zero_but_a_failed_test_shows_no_difference():
    differences = (0.5, 0.4, 0.6, 0.5, 0.3, -0.12)
    records = [record("bc", s, 0.0, 10) for s in range(6)]
    records += [record("ipmd", s, d, 10) for s, d in enumerate(differences)]
    found = summarise(records, SPEC).primary_comparisons[0]
    assert found.difference.low > 0
    assert found.p_value == 0.0625
    assert judge(found) == "unclear"


def test_arms_without_common_seeds_are_compared_unpaired_and_it_is_said():
    records = [record("bc", s, 0.1 * s, 10) for s in range(5)]
    records += [record("ipmd", s, 2 + 0.1 * s, 10) for s in range(5, 10)]
    found = summarise(records, SPEC).primary_comparisons[0]
    assert not found.paired
    assert "5 unpaired seeds; no paired test without common seeds" in evidence(found)


def test_everything_missing_is_named():
    records = [r for r in study() if r.arm != "frozen" and (r.arm, r.seed) != ("ipmd", 3)]
    records = [r for r in records if r.axes != {"demonstrations": 1} or r.arm == "ipmd"]
    found = summarise(records, SPEC)
    assert found.missing == (
        "Frozen: no run",
        "IPMD: no run for seed 3",
        "IPMD (demonstrations = 1): no run for seed 3",
        "bc[demonstrations=1]: no run, so no comparison there",
    )
    assert found.primary_comparisons[0].seeds == (0, 1, 2, 4)


def test_an_arm_may_be_expected_on_other_seeds():
    records = [r for r in study() if r.arm != "frozen" or r.seed == 0]
    assert summarise(records, SPEC).missing == ("Frozen: no run for seed 1, 2, 3, 4",)
    spec = dataclasses.replace(SPEC, expected={"frozen": (0,)})
    assert summarise(records, spec).missing == ()
    spec = dataclasses.replace(SPEC, expected={"frozen": (0, 7)})
    assert summarise(records, spec).missing == ("Frozen: no run for seed 7",)


def test_an_arm_that_is_expected_nowhere_at_an_axis_value_is_not_missing_there():
    records = [r for r in study() if (r.arm, r.axes.get("demonstrations")) != ("bc", 1)]
    spec = dataclasses.replace(SPEC, expected={"bc[demonstrations=1]": ()})
    assert not any("bc[demonstrations=1]" in text for text in summarise(records, spec).missing)
    assert any("bc[demonstrations=1]" in text for text in summarise(records, SPEC).missing)


def test_a_control_need_not_exist_at_every_axis_value():
    assert summarise(study(), SPEC).missing == ()


def test_an_arm_without_axes_is_compared_at_every_axis_value():
    spec = dataclasses.replace(SPEC, comparisons=(Comparison("ipmd", "expert"),))
    labels = [(c.arm.label, c.baseline.label) for c in summarise(study(), spec).primary_comparisons]
    assert labels == [("ipmd", "expert"), ("ipmd[demonstrations=1]", "expert")]


def test_a_diverged_run_is_counted_named_and_leaves_the_mean_of_the_others():
    records = [r for r in study() if r.run_id != "ipmd-10-2"]
    records.append(record("ipmd", 2, None, 10, status="diverged", notes=("NaN in loss_qvalue",)))
    found = summarise(records, SPEC)
    content = json.loads(summary_json(found))
    assert content["diverged"] == {"ipmd": [2]}
    assert content["arms"]["ipmd"]["score"]["n"] == 4
    assert comparison(content, "ipmd", "bc")["n"] == 4
    text = "\n".join(caveats(found))
    assert "1 diverged run: IPMD, seed 2" in text
    assert "IPMD: no score for seed 2" in text
    assert "NaN in loss_qvalue" in text


def test_training_is_written_from_the_records_unless_the_spec_says_otherwise():
    found = {arm.label: arm.training for arm in summarise(study(), SPEC).arms}
    assert (found["bc"], found["ipmd"]) == ("100 epochs", "2,000 frames")
    spec = dataclasses.replace(SPEC, arms=(Arm("bc", "BC", training="6,000 steps"), *SPEC.arms[2:]),
                               comparisons=())  # fmt: skip
    assert {a.label: a.training for a in summarise(study(), spec).arms}["bc"] == "6,000 steps"


def test_records_of_another_study_are_refused():
    with pytest.raises(ValueError, match="of study 'car', the records of 'imitation'"):
        summarise(study(1), dataclasses.replace(SPEC, study="car"))


@pytest.mark.parametrize(
    ("value", "decimals", "signed", "text"),
    [
        (-1228.84, 1, False, "−1,228.8"),
        (0.5, 2, True, "+0.50"),
        (-0.0001, 2, True, "0.00"),
        (None, 2, False, "–"),
    ],
)
def test_numbers_are_written_for_people(value, decimals, signed, text):
    assert number(value, decimals, signed) == text
