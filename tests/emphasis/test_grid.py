"""The grid: every weighting, on every score that applies, moves every learner that has items.

It is felt through losses, where the ratios weigh the rows, and through batches, where rows are
drawn by the probabilities and carry what the draw owes.
"""

import importlib
import inspect
import pkgutil
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grid_learners import (
    LEARNERS,
    MASKED,
    drawn_update,
    learner,
    plain_update,
    same_bits,
    scores_of,
)
from weighting_laws import ITEMS, examples_of

import steelyard.agents
from steelyard.agents.sac import SAC
from steelyard.data.demonstrations import Demonstrations
from steelyard.data.episode import Episode
from steelyard.data.provenance import Provenance
from steelyard.emphasis import (
    SCORE_KINDS,
    SCORES,
    WEIGHTINGS,
    Systematic,
    make_weighting,
    refusal,
)
from steelyard.emphasis.demonstrations import EmphasisConfig, episode_ratios
from steelyard.emphasis.measures import uniform_base
from steelyard.types import EnvSpec

PAGE = Path(__file__).parents[2] / "docs" / "grid.md"
EVERYTHING = jnp.ones(ITEMS, bool)
OTHERS = EVERYTHING.at[MASKED].set(False)
FLOOR = 0.2
"""Share of uniform draws, so that no draw owes more than its inverse."""
PAIRS = [(score, weighting) for score in SCORE_KINDS for weighting in WEIGHTINGS]
TAKEN = [pair for pair in PAIRS if refusal(*pair) is None]
REFUSED = [pair for pair in PAIRS if refusal(*pair) is not None]


@eqx.filter_jit
def ratio_of(weighting, scores, valid):
    return weighting.ratio(scores, valid)


@jax.jit
def drawn_by(ratio, valid):
    """Indices of one batch, and what each draw owes."""
    base = uniform_base(valid)
    sampler = Systematic(1.0, FLOOR)
    return sampler.draw(sampler.table(base * ratio, base), jax.random.key(8), ITEMS)


def ratios(name: str, scores: np.ndarray, valid=EVERYTHING, flat: bool = False) -> list:
    """Ratios of every example of a weighting, options traced so that each class compiles once."""
    found = examples_of(name)
    every = [w for e in found for w in (e.flat if flat else (e.weighting,))]
    traced = [jax.tree.map(jnp.asarray, weighting) for weighting in every]
    return [ratio_of(weighting, jnp.asarray(scores), valid) for weighting in traced]


def nonnegative(weighting: str, scores: np.ndarray) -> np.ndarray:
    """Scores that may be of either sign, moved to where the weighting takes them."""
    return scores - scores.min() if WEIGHTINGS[weighting].domain == "nonnegative" else scores


def has_items(value: type) -> bool:
    """Whether a class of the library learns from rows: it has ``create`` and ``update``."""
    return issubclass(value, eqx.Module) and hasattr(value, "create") and hasattr(value, "update")


def test_every_learner_of_the_library_is_in_the_grid():
    found = set()
    for module in pkgutil.walk_packages(steelyard.agents.__path__, "steelyard.agents."):
        for value in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(value) and value.__module__ == module.name and has_items(value):
                found.add(value)
    assert found == set(LEARNERS)


def test_every_score_of_the_library_is_in_the_grid():
    assert set(SCORE_KINDS) == {*SCORES, "cluster"}


@pytest.mark.parametrize("kind", LEARNERS, ids=lambda kind: kind.__name__)
def test_every_score_and_weighting_moves_the_learner_both_ways(kind):
    example, count = learner(kind), 0
    before, everyone = example.moved(example.agent), jnp.arange(ITEMS)
    for score, weighting in TAKEN:
        scores = scores_of(kind).get(score)
        if scores is None:
            continue
        for ratio in ratios(weighting, nonnegative(weighting, scores)):
            drawn = drawn_by(ratio, EVERYTHING)
            for indices, weights in ((everyone, ratio), (drawn.indices, drawn.correction)):
                after, finite = drawn_update(example, example.batch, indices, weights)
                assert finite, f"{score} × {weighting}"
                assert not same_bits(after, before), f"{score} × {weighting}"
                count += 1
    assert count >= 2 * len(WEIGHTINGS)


@pytest.mark.parametrize("level", [0, 3])
@pytest.mark.parametrize("emitters", [False, True])
def test_no_compilation_makes_a_slope_of_sac_nan(level, emitters):
    """With ``jnp.min`` over the critics one did, on one row of one batch: see SAC's page."""
    example, everyone = learner(SAC), jnp.arange(ITEMS)
    options = {"xla_backend_optimization_level": level, "xla_cpu_use_fusion_emitters": emitters}
    update = jax.jit(drawn_update.__wrapped__, static_argnums=0, compiler_options=options)
    for ratio in ratios("softmax", scores_of(SAC)["influence"]):
        assert update(example, example.batch, everyone, ratio)[1]


@pytest.mark.parametrize("kind", LEARNERS, ids=lambda kind: kind.__name__)
def test_no_sharpness_is_the_unweighted_update_bit_for_bit(kind):
    example = learner(kind)
    scores = scores_of(kind).get("own_loss", scores_of(kind)["constant"])
    plain, everyone = plain_update(example, example.batch), jnp.arange(ITEMS)
    for weighting in WEIGHTINGS:
        for ratio in ratios(weighting, nonnegative(weighting, scores), flat=True):
            after, _ = drawn_update(example, example.batch, everyone, ratio)
            assert same_bits(after, plain), weighting
    # Drawn without emphasis each item comes once and owes nothing: the batch itself.
    drawn = drawn_by(jnp.ones(ITEMS), EVERYTHING)
    assert sorted(drawn.indices.tolist()) == list(range(ITEMS))
    assert drawn.correction.tolist() == [1.0] * ITEMS


@pytest.mark.parametrize("kind", LEARNERS, ids=lambda kind: kind.__name__)
def test_an_item_that_does_not_count_changes_nothing(kind):
    example = learner(kind)
    scores = scores_of(kind).get("own_loss", scores_of(kind)["constant"])
    whole, spoilt, everyone = example.batch, example.poisoned(), jnp.arange(ITEMS)

    def moved_by(batch, indices, weights):
        return drawn_update(example, batch, indices, weights)[0]

    alike = (moved_by(batch, everyone, jnp.ones(ITEMS)) for batch in (whole, spoilt))
    assert not same_bits(*alike)  # it does matter where it counts
    for weighting in WEIGHTINGS:
        clean = nonnegative(weighting, scores)
        bad = np.where(np.arange(ITEMS) == MASKED, np.nan, clean)
        pairs = zip(ratios(weighting, clean, OTHERS), ratios(weighting, bad, OTHERS), strict=True)
        for ratio, same in pairs:
            assert np.asarray(ratio).tobytes() == np.asarray(same).tobytes()
            drawn = drawn_by(ratio, OTHERS)
            assert MASKED not in drawn.indices.tolist()
            for felt in ((everyone, ratio), (drawn.indices, drawn.correction)):
                one, two = (moved_by(batch, *felt) for batch in (whole, spoilt))
                assert same_bits(one, two), weighting


def test_the_page_names_every_learner_and_the_scores_that_apply_to_it():
    rows = {}
    for line in PAGE.read_text("utf-8").partition("<!-- learners -->")[2].splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 5 and cells[1].startswith("`"):
            rows[cells[1].strip("`")] = set(cells[3].split(", "))
    assert rows == {kind.__name__: set(scores_of(kind)) for kind in LEARNERS}


# -- what is refused ---------------------------------------------------------------------------


def test_each_reason_to_refuse_is_met_and_nothing_else_is_refused():
    assert ("influence", "proportional") in REFUSED
    assert ("own_loss", "balanced") in REFUSED
    assert ("cluster", "rank") in REFUSED
    for score, weighting in REFUSED:
        kind, domain = SCORE_KINDS[score], WEIGHTINGS[weighting].domain
        labels = (weighting == "balanced") != (kind.sign == "label")
        assert labels or (domain == "nonnegative" and kind.sign == "signed")
    assert all(refusal(score, "uniform") is None for score in SCORE_KINDS)


def episodes() -> Demonstrations:
    rng = np.random.default_rng(0)
    made = [
        Episode(
            observations=rng.normal(size=(n + 1, 3)).astype(np.float32),
            actions=rng.uniform(-1, 1, (n, 2)).astype(np.float32),
            rewards=rng.normal(size=n).astype(np.float32),
            terminated=False,
            truncated=True,
            start_seed=i,
        )
        for i, n in enumerate(rng.integers(2, 6, ITEMS))
    ]
    spec = EnvSpec("example", 3, (-1.0,) * 2, (1.0,) * 2, 50, can_terminate=True)
    return Demonstrations.from_episodes(made, spec, Provenance("example", "noise", 0))


DATA = episodes()
SHARP = {
    "uniform": {},
    "proportional": {"power": 0.8, "floor": 0.1},
    "rank": {"power": 0.7},
    "softmax": {"ess": 0.5},
    "tail": {"alpha": 0.3},
    "balanced": {"tau": 0.2},
    "drop": {"fraction": 0.6},
    "mean_tail": {"alpha": 0.3, "floor": 0.4},
    "smooth_tail": {"alpha": 0.3, "smoothing": 0.5},
    "tilted": {"tilt": 1.5},
    "chi_square": {"radius": 0.8},
}
"""Options of each weighting as a config's fields."""


def test_every_weighting_is_reached_by_a_config_of_demonstrations():
    assert set(SHARP) == set(WEIGHTINGS)
    for name, options in SHARP.items():
        config = EmphasisConfig("cluster" if name == "balanced" else "given", name, **options)
        assert config.options() == options
        labels = {"labels": jnp.arange(ITEMS)} if name == "balanced" else {}
        made = make_weighting(name, **labels, **config.options())
        assert all(getattr(made, option) == value for option, value in options.items())


@pytest.mark.parametrize("score", ["given", "cluster", "episode_return"])
def test_an_episodes_ratio_is_to_the_measure_of_its_steps(score):
    given = np.arange(-5.0, ITEMS - 5) if score == "given" else None
    name = "balanced" if score == "cluster" else "rank"
    found = episode_ratios(DATA, EmphasisConfig(score, name, **SHARP[name]), 0, given)
    base = DATA.lengths / DATA.lengths.sum()
    assert float(base @ found) == pytest.approx(1.0, abs=1e-5)
    assert np.ptp(found) > 0.1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"score": "episode_retrun", "weighting": "rank"}, "Did you mean 'episode_return'"),
        ({"score": "given", "weighting": "rnak"}, "weighting is one of .* Did you mean 'rank'"),
        ({"weighting": "rank"}, "weighting 'rank' needs a score, got 'none'"),
        ({"score": "cluster", "weighting": "rank"}, "'balanced' goes with score 'cluster'"),
        ({"score": "given", "weighting": "balanced"}, "'balanced' goes with score 'cluster'"),
    ],
)
def test_a_config_that_cannot_be_is_refused_with_the_rule(changes, says):
    with pytest.raises(ValueError, match=says):
        EmphasisConfig(**changes)


@pytest.mark.parametrize(
    ("score", "scores", "says"),
    [
        ("given", None, "'given' without scores"),
        ("episode_return", np.ones(ITEMS), "'episode_return' with scores"),
        ("given", np.ones(3), r"shape \(11,\); got shape \(3,\)"),
        ("given", np.full(ITEMS, np.nan), "11 of them not finite"),
    ],
)
def test_scores_that_do_not_fit_are_refused(score, scores, says):
    with pytest.raises(ValueError, match=says):
        episode_ratios(DATA, EmphasisConfig(score, "rank"), 0, scores)


def test_signed_returns_are_refused_by_proportional_where_their_numbers_are_seen():
    with pytest.raises(ValueError, match=r"must be non-negative on every valid item; .* Signed sc"):
        episode_ratios(DATA, EmphasisConfig("episode_return", "proportional"), 0)
