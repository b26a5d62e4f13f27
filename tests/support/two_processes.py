"""Random programs through two real processes: compiled, cut, pooled and coded, against their files.

Every variant runs an episode and the first step of the next; of a pool another variant makes each
step of one more. This process is the robot. Run by path it is the cloud: it serves the bundle that
each line of its standard input names, prints the port, and ends with it.
"""

from __future__ import annotations

import math
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

import vlacut
import vlacut_passes.alternatives as alternatives
from vlacut.errors import InputError
from vlacut.frontends.load import load_program
from vlacut.hardware import Side
from vlacut.ir.dataflow import trace_dataflow

STEPS, RESET_AT = 4, 3
MOST_ERROR = 0.05
_LINK = {"edge": "jetson-agx-orin", "cloud": "a100", "link": "10MB/s,1ms"}


class Cloud:
    """The other process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def serve(self, bundle: Path) -> str:
        """Serve a bundle in the place of the one before; the address."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{bundle}\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline().strip()
        assert said, f"the cloud ended with {self._process.wait(10)}"
        return said

    def close(self) -> None:
        with self._process:  # its end of input ends it
            assert self._process.stdin is not None
            self._process.stdin.close()
            assert self._process.wait(30) == 0

    def kill(self) -> None:
        """End it at once, whatever it does."""
        with self._process:
            self._process.kill()


@contextmanager
def cloud() -> Iterator[Cloud]:
    """The cloud's process, which has to end in order."""
    made = Cloud()
    try:
        yield made
    except BaseException:
        made.kill()
        raise
    made.close()


def options(folder: Path, draw: random.Random) -> dict[str, Any]:
    """What a program is compiled with: operators here and there, a pool, codecs, or none of it."""
    program = load_program(str(folder))
    names = [str(node.name) for node in trace_dataflow(program).nodes if node is not None]
    share = draw.choice((0.0, 0.3, 0.6, 1.0))
    pins = [f"{name}=cloud" for name in names if draw.random() < share]
    pins += [
        f"{name}=edge" for name in names if f"{name}=cloud" not in pins and draw.random() < 0.3
    ]
    made: dict[str, Any] = {**_LINK, "pin": pins}
    if draw.random() < 0.4:
        made["pool"] = "portfolio:1MB"
        made["pool_engines"] = draw.choice(("segments", "fused"))
        made["pin"] = pins[: draw.choice((0, 1, 2))]
    elif draw.random() < 0.4:
        made |= {"codecs": "all", "max_action_error": MOST_ERROR, "link": "10kB/s,1ms"}
    return made


def run_many(
    seeds: Iterable[int],
    folder: Path,
    seconds: float = math.inf,
    least: int = 0,
    said: Callable[[int, Counter[str]], None] = lambda seed, count: None,
) -> Counter[str]:
    """Programs of these seeds, for so long at most, but so many at least; what they were, also said
    after each.
    """
    count: Counter[str] = Counter()
    end = time.monotonic() + seconds
    with cloud() as other:
        for seed in seeds:
            if time.monotonic() > end and count["programs"] >= least:
                break
            run(seed, folder / str(seed), other, count)
            shutil.rmtree(folder / str(seed))
            count["programs"] += 1
            said(seed, count)
    return count


def run(seed: int, folder: Path, other: Cloud, count: Counter[str]) -> None:
    """One program: AssertionError where an action is not that of the files."""
    from support.random_models import random_model  # the cloud has no tests on its path

    model, draw = random_model(seed), random.Random(seed)
    chosen = options(model.write(folder / "model"), draw)
    bundle = folder / "bundle.vlacut"
    with pool_of_any(draw):
        plan = compiled(folder / "model", bundle, chosen).plan
    coded = {variant.name: bool(variant.coded) for variant in plan.variants}
    selectors = {**coded, "random": any(coded.values())} if len(coded) > 1 else coded
    for selector, has_codecs in selectors.items():
        address = other.serve(bundle) if any(plan.crosses) else None
        with vlacut.connect(bundle, address, selector=selector, timeout=10.0) as policy:
            compare_episodes(f"seed {seed}, {selector}", model, policy, has_codecs)
    count["crossing"] += sum(plan.crosses)
    count["on one side"] += len(coded) - sum(plan.crosses)
    count["coded"] += sum(coded.values())
    count["pooled"] += len(coded) if len(coded) > 1 else 0
    count["remembering"] += bool(plan.states)


def compare_episodes(where: str, model: Any, policy: Any, coded: bool) -> None:
    """Steps of an episode and of the next, against the files."""
    from support.random_models import Uncut

    uncut = Uncut(model)
    for step in range(STEPS):
        if step == RESET_AT:
            policy.reset()
            uncut.reset()
        observed = model.observation(step)
        action, expected = policy.step(observed), uncut.step(observed)
        compare(f"{where}, step {step}", action, expected, coded, model.halves)


@contextmanager
def pool_of_any(draw: random.Random) -> Iterator[None]:
    """Let a pool be of placements drawn, and not of those that pay: of so few operators none do."""

    def placements(graph: Any, chosen: Any, *args: Any) -> list[Any]:
        free = args[-2]
        sides = [Side.EDGE, Side.CLOUD]
        share = draw.random()
        return [
            tuple(
                sides[draw.random() < share] if task in free else side
                for task, side in enumerate(chosen.sides)
            )
            for _ in range(6)
        ]

    def kept(graph: Any, chosen: Any, others: list[Any], *args: Any) -> list[Any]:
        return draw.sample(others, min(len(others), 3))

    with (
        patch.multiple(
            alternatives,
            best_placements=placements,
            undominated=lambda graph, chosen, others, points: list(others),
            select=kept,
        ),
        patch.object(
            alternatives._Search, "name", lambda self, one, kept: f"drawn-{kept.index(one)}"
        ),
    ):
        yield


def compiled(model: Path, bundle: Path, chosen: dict[str, Any]) -> Any:
    """The bundle, without the pins of operators that were folded away."""
    while True:
        try:
            return vlacut.compile(str(model), out=bundle, cache=False, **chosen)
        except InputError as error:
            gone = re.match(r".*'(\w+)' matches no block", str(error))
            if gone is None:
                raise
            chosen["pin"] = [pin for pin in chosen["pin"] if not pin.startswith(f"{gone[1]}=")]


def compare(
    where: str,
    action: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    coded: bool,
    halves: bool,
) -> None:
    """Bit for bit; names, types and shapes alone where codecs are: a random program amplifies what
    they lose without a bound; within 16 bits' roundings where what has 16 may be kept in 32.
    """
    assert set(action) == set(expected), where
    for name, array in expected.items():
        assert (action[name].dtype, action[name].shape) == (array.dtype, array.shape), where
        if not coded and not halves:
            np.testing.assert_array_equal(action[name], array, err_msg=f"{where}, {name}")
        elif not coded and array.dtype.kind == "f":
            np.testing.assert_allclose(action[name], array, rtol=0.02, atol=0.02, err_msg=where)


def serve() -> None:
    """The cloud: a bundle a line."""
    server, thread = None, None
    for line in sys.stdin:
        if server is not None and thread is not None:
            server.shutdown()
            thread.join(20)
        server = vlacut.serve(line.strip())
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        print("{}:{}".format(*server.address), flush=True)
    if server is not None and thread is not None:
        server.shutdown()
        thread.join(20)


if __name__ == "__main__":
    serve()
