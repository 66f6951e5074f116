"""What the imitation study refuses before any work starts; each error says what to do."""

import difflib

from steelyard.data.specs import compare_specs
from steelyard.envs.registry import env_spec
from steelyard.envs.seeding import MOST_SEED, start_seeds
from steelyard.studies.cells import Store
from steelyard.studies.imitation.config import ARMS, ImitationConfig
from steelyard.studies.imitation.sources import shared_dataset


def check(config: ImitationConfig, store: Store) -> None:
    """Check a resolved config.

    Raises:
        ValueError: A rule is broken; the message names the rule, the value and the legal ones.
        FileNotFoundError: The shared dataset does not exist.
    """
    spec = env_spec(config.env)
    for arm in config.arms:
        if arm not in ARMS:
            near = difflib.get_close_matches(arm, ARMS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            if arm == "mixed_reward":
                hint = " It is no imitation: `steelyard train ipmd --arm mixed_reward` trains it."
            raise ValueError(f"There is no arm {arm!r}; there are {list(ARMS)}.{hint}")
    if not config.seeds or len(set(config.seeds)) < len(config.seeds):
        raise ValueError(f"Seeds must be distinct and at least one, got {config.seeds}.")
    for seed in config.seeds:
        if not 0 <= seed <= MOST_SEED:
            raise ValueError(f"Seeds must lie between 0 and {MOST_SEED}, got {seed}.")
    if config.eval_episodes < 2:
        raise ValueError(f"eval_episodes must be at least 2, got {config.eval_episodes}.")
    if not config.demonstrations or not config.quality:
        raise ValueError("demonstrations and quality each need at least one value, got none.")
    for name, values in (("demonstrations", config.demonstrations), ("quality", config.quality)):
        if len(set(values)) < len(values):
            raise ValueError(f"{name} must be distinct values, got {values}.")
    blind = [arm for arm in ("ipmd", "ipmd_frozen_reward") if arm in config.arms]
    if config.ipmd.agent.env_reward_weight and blind:
        raise ValueError(
            f"Arm {blind[0]!r} never sees the task's reward, got env_reward_weight = "
            f"{config.ipmd.agent.env_reward_weight}. A mixed reward is another method: train it "
            "with `steelyard train ipmd --arm mixed_reward`."
        )
    for run in (config.sac, config.ipmd):
        run.loop.updates_per_iteration(run.agent.policy_delay)
    agent = config.ipmd.agent
    if spec.can_terminate and (agent.gamma == 1.0 or agent.absorbing is False):
        raise ValueError(
            f"{spec.id} can terminate: IPMD needs gamma < 1 (got {agent.gamma}) and its absorbing "
            "state (--ipmd.agent.absorbing True), or living longer is a reward by itself."
        )
    start_seeds(0, config.num_episodes)
    dataset = shared_dataset(config, store)
    most = config.num_episodes
    if dataset is not None:
        compare_specs(dataset.env_spec, spec)
        most = len(dataset)
        if config.bc.emphasis.score == "episode_return" and dataset.rewards is None:
            raise ValueError(
                "bc.emphasis.score = 'episode_return' needs demonstrations with rewards; "
                f"{config.expert_data} has none."
            )
    for count in config.demonstrations:
        if not 1 <= count <= most:
            raise ValueError(
                f"demonstrations must be between 1 and the {most} episodes there are, got {count}."
            )
