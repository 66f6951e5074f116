"""CleanRL's PPO recipe for continuous actions in eager PyTorch, written afresh; one JSON line.

Started by ``benchmarks/peers.py`` with the interpreter of the peers.

What the recipe says (CleanRL's documentation of ``ppo_continuous_action``): separate actor and
critic, tanh, orthogonal weights, a learned standard deviation that no state changes, one Adam
(3e-4, falling along a line, epsilon 1e-5), actions clipped, observations and rewards normalised by
wrappers of each environment, advantages normalised by minibatch, values clipped, gradients clipped
at 0.5.
"""

import warnings

import gymnasium
import numpy as np
import torch
from measured import Moment, report
from ppo_sizes import size_parser
from torch import Tensor, nn

GAMMA, LAMBDA, CLIP, VALUE_FACTOR, MAX_NORM, RATE = 0.99, 0.95, 0.2, 0.5, 0.5, 3e-4
WARM_UP = 2


def layer(inputs: int, outputs: int, gain: float = 2**0.5) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(linear.weight, gain)
    nn.init.zeros_(linear.bias)
    return linear


def network(inputs: int, width: int, outputs: int, gain: float) -> nn.Sequential:
    inner = (layer(inputs, width), nn.Tanh(), layer(width, width), nn.Tanh())
    return nn.Sequential(*inner, layer(width, outputs, gain))


class Learner(nn.Module):
    def __init__(self, observation_size: int, action_size: int, width: int):
        super().__init__()
        self.critic = network(observation_size, width, 1, 1.0)
        self.actor = network(observation_size, width, action_size, 0.01)
        self.log_std = nn.Parameter(torch.zeros(action_size))

    def policy(self, observation: Tensor) -> torch.distributions.Normal:
        return torch.distributions.Normal(self.actor(observation), self.log_std.exp())

    def value(self, observation: Tensor) -> Tensor:
        return self.critic(observation).squeeze(-1)


def make(env: str):
    def build() -> gymnasium.Env:
        wrapped = gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make(env))
        wrapped = gymnasium.wrappers.ClipAction(wrapped)
        wrapped = gymnasium.wrappers.NormalizeObservation(wrapped)
        space = wrapped.observation_space
        wrapped = gymnasium.wrappers.TransformObservation(
            wrapped, lambda seen: np.clip(seen, -10, 10), space
        )
        wrapped = gymnasium.wrappers.NormalizeReward(wrapped, gamma=GAMMA)
        return gymnasium.wrappers.TransformReward(wrapped, lambda r: float(np.clip(r, -10, 10)))

    return build


def advantages(rewards: Tensor, values: Tensor, ended: Tensor, after: Tensor) -> Tensor:
    found, last = torch.zeros_like(rewards), torch.zeros_like(after)
    for t in reversed(range(len(rewards))):
        follows = after if t == len(rewards) - 1 else values[t + 1]
        goes_on = 1.0 - ended[t]
        delta = rewards[t] + GAMMA * follows * goes_on - values[t]
        last = delta + GAMMA * LAMBDA * goes_on * last
        found[t] = last
    return found


def step(learner: Learner, optimiser: torch.optim.Optimizer, batch: tuple[Tensor, ...]) -> None:
    observation, action, old_log_prob, advantage, target, old_value = batch
    policy = learner.policy(observation)
    ratio = (policy.log_prob(action).sum(1) - old_log_prob).exp()
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
    policy_loss = torch.max(-advantage * ratio, -advantage * clipped).mean()
    value = learner.value(observation)
    near = old_value + (value - old_value).clamp(-CLIP, CLIP)
    value_loss = 0.5 * torch.max((value - target) ** 2, (near - target) ** 2).mean()
    optimiser.zero_grad()
    (policy_loss + VALUE_FACTOR * value_loss).backward()
    nn.utils.clip_grad_norm_(learner.parameters(), MAX_NORM)
    optimiser.step()


def main() -> None:
    parser = size_parser(__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    envs = gymnasium.vector.SyncVectorEnv([make(args.env)] * args.num_envs)
    observations, actions = envs.single_observation_space.shape[0], envs.single_action_space.shape
    learner = Learner(observations, actions[0], args.width)
    optimiser = torch.optim.Adam(learner.parameters(), lr=RATE, eps=1e-5)
    items, shape = args.num_envs * args.steps, (args.steps, args.num_envs)
    rows = [torch.zeros((*shape, *more)) for more in ((observations,), actions, (), (), (), ())]
    seen, _ = envs.reset(seed=args.seed)
    seen = torch.as_tensor(seen, dtype=torch.float32)
    marks: list[Moment] = []
    update, iteration = 0.0, 0
    while True:
        iteration += 1
        if iteration > WARM_UP:
            marks.append(Moment.now())
            if marks[-1].wall - marks[0].wall >= args.seconds:
                break
        for t in range(args.steps):
            with torch.no_grad():
                policy = learner.policy(seen)
                action, value = policy.sample(), learner.value(seen)
            after, reward, terminated, truncated, _ = envs.step(action.numpy())
            ended = torch.as_tensor(np.logical_or(terminated, truncated), dtype=torch.float32)
            reward = torch.as_tensor(reward, dtype=torch.float32)
            log_prob = policy.log_prob(action).sum(1)
            for row, now in zip(rows, (seen, action, log_prob, reward, ended, value), strict=True):
                row[t] = now
            seen = torch.as_tensor(after, dtype=torch.float32)
        begin = Moment.now()
        with torch.no_grad():
            found = advantages(rows[3], rows[5], rows[4], learner.value(seen))
        flat = [x.flatten(0, 1) for x in (*rows[:3], found, found + rows[5], rows[5])]
        for _ in range(args.epochs):
            for part in torch.randperm(items).chunk(args.minibatches):
                step(learner, optimiser, tuple(x[part] for x in flat))
        update += Moment.now().since(begin).wall if marks else 0.0
    frames, window = items * (len(marks) - 1), marks[-1].since(marks[0])
    report(
        {
            "frames_per_s": frames / window.wall,
            "frames_per_cpu_s": frames / window.cpu,
            "update_items_per_s": frames * args.epochs / update,
            "update_share": update / window.wall,
        },
        ("torch", "gymnasium", "mujoco"),
        frames=frames,
        threads=args.threads,
    )


if __name__ == "__main__":
    main()
