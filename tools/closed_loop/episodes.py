"""Episodes: what a policy sees, and the samples it learns from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from .expert import chunk as expert_chunk
from .policy import BEFORE, CHUNK, words
from .tasks import TASKS, Episode, begin
from .world import World

Observation = dict[str, np.ndarray]


class Eyes:
    """The pictures of a world: now, and of the front camera `BEFORE` ticks ago as well."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._fronts: deque[np.ndarray] = deque(maxlen=BEFORE + 1)

    def look(self) -> dict[str, np.ndarray]:
        """The three pictures of this tick; to be called every tick."""
        self._fronts.append(self._world.picture("front"))
        wrist = self._world.picture("wrist")
        return {"front": self._fronts[-1], "before": self._fronts[0], "wrist": wrist}


def sentence(task: str, episode: Episode) -> np.ndarray:
    """The words of an episode's instruction."""
    return np.array(words(TASKS[task].instructions[episode.instruction]), np.int64)


def observe(world: World, eyes: Eyes, told: np.ndarray) -> Observation:
    """What a policy gets: pictures, words and proprioception."""
    return {**eyes.look(), "words": told, "state": world.proprioception}


Actor = Callable[[Observation], np.ndarray]


def gather(
    task: str, world: World, seed: int, actor: Actor | None, numbers: np.random.Generator
) -> tuple[list[Observation], bool]:
    """Samples of one episode with the expert's chunk in each, and whether it succeeded.

    Without an actor the expert drives, with noise on its commands now and then, so that what it
    does to recover is seen. With one, the actor drives with a random delay and number of actions
    played per chunk (DAgger, Ross et al. 2011).
    """
    rules, episode = TASKS[task], begin(TASKS[task], world, seed)
    eyes, told = Eyes(world), sentence(task, episode)
    samples: list[Observation] = []
    delay, played = int(numbers.integers(0, 6)), int(numbers.integers(1, 9))
    plan: np.ndarray | None = None
    arriving: tuple[int, np.ndarray] | None = None
    index, push = 0, np.zeros(5)
    for tick in range(rules.most_ticks):
        observation = observe(world, eyes, told)
        if actor is None or tick % 2 == 0:
            label = expert_chunk(world, episode, tick, CHUNK)
            samples.append({**observation, "chunk": label.astype(np.float32)})
        if actor is None:
            if numbers.random() < 0.08:
                push = numbers.normal(0, 1, 5) * (0.02, 0.02, 0.012, 0.12, 0.0)
            command = label[0] + push
            push = push * 0.8
        else:
            if arriving is None and (plan is None or index >= played):
                arriving = (tick + delay, actor(observation))
            if arriving is not None and tick >= arriving[0]:
                plan, arriving, index = arriving[1], None, 0
            command = world.command if plan is None else plan[min(index, CHUNK - 1)]
            index += 1
        episode.move(world, tick)
        world.step(np.asarray(command, float))
        if rules.done(world, episode):
            return samples, True
    return samples, False
