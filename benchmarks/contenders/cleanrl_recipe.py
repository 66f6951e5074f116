"""CleanRL's SAC recipe in eager PyTorch, written afresh from its description; one JSON line.

Started by ``benchmarks/sac_speed.py`` with the interpreter of ``--python-peers``.

What the recipe says (CleanRL's documentation of ``sac_continuous_action``): one environment, two
separate critics under one Adam (1e-3), an actor (3e-4) that is stepped twice at every second frame,
so once a frame on average, a temperature that is learned towards minus the action size with its own
draw of actions, target critics that move by 0.005 at every frame, batch 256, 256x256.
"""

import argparse
import itertools
import json
import time
import warnings
from importlib import metadata

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

GAMMA, TAU, BATCH, WIDTH = 0.99, 0.005, 256, 256
ACTOR_LR, CRITIC_LR = 3e-4, 1e-3
POLICY_FREQUENCY = 2
LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0

started = time.perf_counter()


class Critic(nn.Module):
    def __init__(self, observation_size: int, action_size: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(observation_size + action_size, WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, 1),
        )

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        return self.layers(torch.cat([observation, action], dim=1)).squeeze(1)


class Actor(nn.Module):
    def __init__(self, observation_size: int, space: gymnasium.spaces.Box):
        super().__init__()
        action_size = space.shape[0]
        self.trunk = nn.Sequential(
            nn.Linear(observation_size, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()
        )
        self.mean = nn.Linear(WIDTH, action_size)
        self.log_std = nn.Linear(WIDTH, action_size)
        self.register_buffer("scale", torch.as_tensor((space.high - space.low) / 2).float())
        self.register_buffer("centre", torch.as_tensor((space.high + space.low) / 2).float())

    def sample(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(observation)
        squashed = torch.tanh(self.log_std(features))
        log_std = LOG_STD_MIN + 0.5 * (LOG_STD_MAX - LOG_STD_MIN) * (squashed + 1)
        normal = torch.distributions.Normal(self.mean(features), log_std.exp())
        before = normal.rsample()
        unit = torch.tanh(before)
        log_prob = normal.log_prob(before) - torch.log(self.scale * (1 - unit**2) + 1e-6)
        return unit * self.scale + self.centre, log_prob.sum(dim=1)


class Replay:
    def __init__(self, capacity: int, observation_size: int, action_size: int):
        self.observation = np.zeros((capacity, observation_size), np.float32)
        self.next_observation = np.zeros((capacity, observation_size), np.float32)
        self.action = np.zeros((capacity, action_size), np.float32)
        self.reward = np.zeros(capacity, np.float32)
        self.terminated = np.zeros(capacity, np.float32)
        self.position, self.full = 0, False

    def add(self, observation, action, reward, terminated, next_observation) -> None:
        at = self.position
        self.observation[at], self.next_observation[at] = observation, next_observation
        self.action[at], self.reward[at], self.terminated[at] = action, reward, terminated
        self.position = (at + 1) % len(self.reward)
        self.full |= self.position == 0

    def sample(self) -> tuple[Tensor, ...]:
        rows = np.random.randint(0, len(self.reward) if self.full else self.position, BATCH)
        columns = (
            self.observation,
            self.action,
            self.reward,
            self.terminated,
            self.next_observation,
        )
        return tuple(torch.from_numpy(column[rows]) for column in columns)


class Learner:
    def __init__(self, observation_size: int, space: gymnasium.spaces.Box):
        action_size = space.shape[0]
        self.actor = Actor(observation_size, space)
        self.q1, self.q2, self.target1, self.target2 = (
            Critic(observation_size, action_size) for _ in range(4)
        )
        self.target1.load_state_dict(self.q1.state_dict())
        self.target2.load_state_dict(self.q2.state_dict())
        both = [*self.q1.parameters(), *self.q2.parameters()]
        self.critic_optimiser = torch.optim.Adam(both, lr=CRITIC_LR)
        self.actor_optimiser = torch.optim.Adam(self.actor.parameters(), lr=ACTOR_LR)
        self.log_alpha = torch.zeros(1, requires_grad=True)
        self.alpha_optimiser = torch.optim.Adam([self.log_alpha], lr=CRITIC_LR)
        self.alpha = self.log_alpha.exp().item()
        self.target_entropy = -float(action_size)

    def critic_step(self, batch: tuple[Tensor, ...]) -> None:
        observation, action, reward, terminated, after = batch
        with torch.no_grad():
            next_action, log_prob = self.actor.sample(after)
            least = torch.min(self.target1(after, next_action), self.target2(after, next_action))
            target = reward + GAMMA * (1 - terminated) * (least - self.alpha * log_prob)
        loss = functional.mse_loss(self.q1(observation, action), target)
        loss = loss + functional.mse_loss(self.q2(observation, action), target)
        self.critic_optimiser.zero_grad()
        loss.backward()
        self.critic_optimiser.step()

    def actor_step(self, observation: Tensor) -> None:
        action, log_prob = self.actor.sample(observation)
        least = torch.min(self.q1(observation, action), self.q2(observation, action))
        loss = (self.alpha * log_prob - least).mean()
        self.actor_optimiser.zero_grad()
        loss.backward()
        self.actor_optimiser.step()
        with torch.no_grad():
            _, log_prob = self.actor.sample(observation)
        alpha_loss = (-self.log_alpha.exp() * (log_prob + self.target_entropy)).mean()
        self.alpha_optimiser.zero_grad()
        alpha_loss.backward()
        self.alpha_optimiser.step()
        self.alpha = self.log_alpha.exp().item()

    @torch.no_grad()
    def target_step(self) -> None:
        for critic, target in ((self.q1, self.target1), (self.q2, self.target2)):
            for new, old in zip(critic.parameters(), target.parameters(), strict=True):
                old.lerp_(new, TAU)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warmup", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)

    env = gymnasium.make(args.env)
    env.action_space.seed(args.seed)
    sizes = env.observation_space.shape[0], env.action_space.shape[0]
    learner, replay = Learner(sizes[0], env.action_space), Replay(1_000_000, *sizes)
    observation, _ = env.reset(seed=args.seed)
    marks: list[tuple[int, float, float]] = []
    for frame in itertools.count():
        if frame >= 2 * args.warmup and (frame - 2 * args.warmup) % 100 == 0:
            marks.append((frame, time.perf_counter(), time.process_time()))
            if marks[-1][1] - marks[0][1] >= args.seconds:
                break
        if frame < args.warmup:
            action = env.action_space.sample()
        else:
            with torch.no_grad():
                row = torch.as_tensor(observation, dtype=torch.float32)[None]
                action = learner.actor.sample(row)[0][0].numpy()
        after, reward, terminated, truncated, _ = env.step(action)
        replay.add(observation, action, reward, terminated, after)
        observation = env.reset()[0] if terminated or truncated else after
        if frame >= args.warmup:
            batch = replay.sample()
            learner.critic_step(batch)
            if frame % POLICY_FREQUENCY == 0:
                for _ in range(POLICY_FREQUENCY):
                    learner.actor_step(batch[0])
            learner.target_step()
    (first, begin, cpu_begin), (last, end, cpu_end) = marks[0], marks[-1]
    print(
        json.dumps(
            {
                "frames": last - first,
                "seconds": end - begin,
                "cpu_seconds": cpu_end - cpu_begin,
                "before_window_s": begin - started,
                "compile_s": 0.0,
                "threads": torch.get_num_threads(),
                "versions": {
                    name: metadata.version(name) for name in ("torch", "gymnasium", "mujoco")
                },
            }
        )
    )


if __name__ == "__main__":
    main()
