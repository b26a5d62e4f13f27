"""Random programs through two real processes: compiled, cut, pooled and coded, against their files.

This process is the robot. Run by path it is the cloud: it serves the bundle that each line of its
standard input names, prints the port, and ends with it.
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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import vlacut
from vlacut.errors import InputError
from vlacut.frontends.load import load_program
from vlacut.ir.dataflow import trace_dataflow

STEPS = 3
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
        made["pin"] = pins[:2]
    elif draw.random() < 0.4:
        made |= {"codecs": "all", "max_action_error": MOST_ERROR, "link": "10kB/s,1ms"}
    return made


def run_many(seeds: Iterable[int], folder: Path, seconds: float = math.inf) -> Counter[str]:
    """Programs of these seeds, for so long at most; what they were."""
    count: Counter[str] = Counter()
    end = time.monotonic() + seconds
    with cloud() as other:
        for seed in seeds:
            if time.monotonic() > end:
                break
            run(seed, folder / str(seed), other, count)
            shutil.rmtree(folder / str(seed))
            count["programs"] += 1
    return count


def run(seed: int, folder: Path, other: Cloud, count: Counter[str]) -> None:
    """One program: AssertionError where an action is not that of the files."""
    from support.random_models import random_model  # the cloud has no tests on its path

    model, draw = random_model(seed), random.Random(seed)
    chosen = options(model.write(folder / "model"), draw)
    bundle = folder / "bundle.vlacut"
    made = compiled(folder / "model", bundle, chosen)
    coded = [bool(variant.coded) for variant in made.plan.variants]
    for variant, has_codecs in zip(made.plan.variants, coded, strict=True):
        crosses = made.plan.crosses[made.plan.variants.index(variant)]
        address = other.serve(bundle) if any(made.plan.crosses) else None
        with vlacut.connect(bundle, address, selector=variant.name, timeout=10.0) as policy:
            for step in range(STEPS):
                observed = model.observation(step)
                action, expected = policy.step(observed), model.expected(observed)
                compare(f"seed {seed}, {variant.name}", action, expected, has_codecs, model.halves)
        count["crossing" if crosses else "on one side"] += 1
        count["coded"] += has_codecs
        count["pooled"] += len(coded) > 1


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
