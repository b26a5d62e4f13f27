"""Noise on the pictures: a trigger that sees them decides otherwise, the joints' does not, exactly.

The setting of RAPID's table I: a cheap inference on the edge says how unsure it is, a strong one in
the cloud is asked where it is unsure. The policy is a softmax regression on pictures of a blob,
trained here on clean ones, so that its entropy under noise is its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from support.arm import SENSED, TICK_S, script
from support.control import LENGTH, OUTPUT, TICK_NS, cycle_of

from vlacut.control.controllers.entropy import Entropy
from vlacut.control.controllers.rapid import Rapid
from vlacut.control.inferring.inference import Inference
from vlacut.control.inferring.virtual import Course
from vlacut.control.signals.entropy import entropy_of
from vlacut.control.signals.motion import MotionMeter
from vlacut.control.situation import Controller
from vlacut.tensor import TensorSpec

SIDE, BINS = 12, 8
CHEAP_S, STRONG_S = 0.06, 0.33
NOISES = (0.0, 0.3, 0.6)


def picture(place: float, noise: float, numbers: np.random.Generator) -> np.ndarray:
    """A blob at a place from 0 to 1, [SIDE * SIDE]."""
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    blob = np.exp(-((x - place * (SIDE - 1)) ** 2 + (y - SIDE / 2) ** 2) / 4)
    return np.asarray(blob + noise * numbers.standard_normal(blob.shape)).reshape(-1)


@cache
def weights() -> np.ndarray:
    """Of a softmax regression from a clean picture to the bin of its place, [pixels + 1, BINS]."""
    numbers = np.random.default_rng(0)
    places = numbers.random(400)
    seen = np.column_stack(([picture(one, 0.02, numbers) for one in places], np.ones(400)))
    wanted = np.eye(BINS)[np.minimum((places * BINS).astype(int), BINS - 1)]
    made = np.zeros((seen.shape[1], BINS))
    for _ in range(3000):
        scores = np.exp(seen @ made)
        made += 3.0 * seen.T @ (wanted - scores / scores.sum(axis=1, keepdims=True)) / 400
    return made


def logits(image: np.ndarray) -> np.ndarray:
    return (np.append(image, 1.0) @ weights())[None]


def run(
    controller: Controller, noise: float, seeds: Sequence[int] = (3, 4, 5)
) -> tuple[list[tuple[int, int]], float]:
    """Ticks and variants of the inferences, and their mean seconds, over some episodes."""
    numbers = np.random.default_rng(1)
    asked: list[tuple[int, int]] = []

    def make(inference: Inference, variant: int) -> Mapping[str, np.ndarray]:
        said = logits(inference.observation["image"])
        return {"action": np.zeros((1, LENGTH, 3)), "logits": said}

    def course(inference: Inference, now_ns: int) -> Course:
        variant = inference.variant or 0
        asked.append((inference.tick, variant))
        return Course(variant, (CHEAP_S, STRONG_S)[variant])

    cycle = cycle_of(
        course,
        controller=controller,
        make=make,
        expected=(CHEAP_S, STRONG_S),
        inputs={"image": TensorSpec("image", "float64", (SIDE * SIDE,))},
        output=OUTPUT,
        entropy="logits",
    )
    every, now = round(TICK_S * SENSED), 0
    for seed in seeds:
        meter, made = MotionMeter(SENSED), script(seed)
        cycle.reset()
        for tick in range(len(made.qd) // every):
            now += TICK_NS
            for sample in range(tick * every, (tick + 1) * every):
                meter.sense(None, made.qd[sample], made.tau[sample], (sample + 1) * 2_000_000)
            image = picture((tick % 60) / 60, noise, numbers)
            cycle.tick({"image": image}, now, now, meter.take())
    seconds = [(CHEAP_S, STRONG_S)[variant] for _, variant in asked]
    return asked, float(np.mean(seconds))


def test_noise_is_no_matter_to_the_joints_and_moves_the_vision_trigger() -> None:
    """That the vision trigger asks *more* under noise is the policy's doing, not the rule's: this
    linear one grows more confident as often as less. Of the joints' rule it is exact.
    """
    numbers = np.random.default_rng(3)
    clean = [entropy_of(logits(picture(p, 0.0, numbers))) for p in numbers.random(200)]
    threshold = float(np.quantile(clean, 0.9))
    visual = [run(Entropy(threshold, cheap=0, strong=1, period_s=0.1), noise) for noise in NOISES]
    assert visual[0] != visual[1] != visual[2]
    assert all({variant for _, variant in asked} == {0, 1} for asked, _ in visual)
    kinematic = [run(Rapid(critical=1, redundant=0), noise) for noise in NOISES]
    assert kinematic[0] == kinematic[1] == kinematic[2]
    assert {variant for _, variant in kinematic[0][0]} == {0, 1}
