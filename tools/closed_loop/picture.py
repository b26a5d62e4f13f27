r"""An animation of the same episode, driven in two ways, side by side.

    python -m tools.closed_loop.picture naive aligned --delay-ms 300 --seed 1000003 -o episode.gif
    python -m tools.closed_loop.picture naive:chosen:roboecc.vlacut aligned \
        --plan openvla.vlacut --traces TRACES --policy bench/bundles/flow-….vlacut -o episode.gif

A side is a way to play; with a plan what chooses its variants, a name of one or of a selector; and
another plan for this side alone. Left and right have the same seed, so the same blocks on the same
belt, which changes its speed. The one that is done first stands still until the other is, or has
run out of time.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vlacut.control.ways.playing import PLAYINGS

from .results.cells import EXPERT, HELD_OUT, Cell, Stage, how, timing_of
from .rollouts.rollout import drive
from .simulation.arm import RATE
from .simulation.tasks import TASKS
from .simulation.world import World

_SIDE, _HEAD, _EVERY = 208, 32, 3  # pixels, pixels, ticks from one frame to the next
_COLOURS = 40
_STILL_MS = 1500  # that the last frame stays


def frames(stage: Stage, cell: Cell, seed: int, said: str) -> list[Image.Image]:
    """An episode's frames, with what is said above them."""
    task, world = stage.world(cell.task)
    policy, timing = stage.policy(cell.policy, cell.task, cell.horizon), timing_of(cell, seed)
    shown: list[tuple[int, np.ndarray]] = []

    def watch(tick: int, now: World) -> None:
        if tick % _EVERY == 0:
            shown.append((tick, now.picture("front", _SIDE)))

    run = drive(task, world, policy, seed, timing, how(cell, timing), watch=watch)
    shown.append((run.ticks, world.picture("front", _SIDE)))
    end = "done" if run.success else "too late"
    last = len(shown) - 1
    return [
        _frame(picture, f"{said}\n{tick / RATE:.1f} s{', ' + end if at == last else ''}")
        for at, (tick, picture) in enumerate(shown)
    ]


def _frame(picture: np.ndarray, said: str) -> Image.Image:
    whole = Image.new("RGB", (_SIDE, _SIDE + _HEAD), "white")
    whole.paste(Image.fromarray(picture), (0, _HEAD))
    ImageDraw.Draw(whole).multiline_text((6, 3), said, fill="black", spacing=2)
    return whole


def side_by_side(left: Sequence[Image.Image], right: Sequence[Image.Image]) -> list[Image.Image]:
    """Both at once; who is done first waits."""
    made = []
    for at in range(max(len(left), len(right))):
        both = Image.new("RGB", (2 * _SIDE + 4, _SIDE + _HEAD), "white")
        both.paste(left[min(at, len(left) - 1)], (0, 0))
        both.paste(right[min(at, len(right) - 1)], (_SIDE + 4, 0))
        made.append(both)
    return made


def write(path: Path, made: Sequence[Image.Image]) -> None:
    """As a GIF that goes on for ever, in one palette, so that what stands still costs nothing."""
    palette = made[len(made) // 2].quantize(_COLOURS)
    few = [one.quantize(palette=palette, dither=Image.Dither.NONE) for one in made]
    lasts = [1000 * _EVERY // RATE] * (len(few) - 1) + [_STILL_MS]
    few[0].save(path, save_all=True, append_images=few[1:], duration=lasts, loop=0, optimize=True)


def side(base: Cell, said: str) -> tuple[Cell, str]:
    """A side's cell, and what is said above it; ValueError for a way that there is not."""
    way, selector, plan = [*said.split(":", 2), "", ""][:3]
    if way not in PLAYINGS:
        raise ValueError(f"no way to play is called {way!r}: {', '.join(PLAYINGS)}")
    if not base.plan:
        assert base.delay_s is not None
        told = f"{way}: an inference takes {1e3 * base.delay_s:.0f} ms"
        return replace(base, playing=way), told
    chosen = replace(base, playing=way, selector=selector or base.selector)
    chosen = replace(chosen, plan=plan or base.plan)
    return chosen, f"{way}; {Path(chosen.plan).stem}, {chosen.selector}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sides", nargs=2, metavar="SIDE", help="PLAYING[:SELECTOR[:PLAN]]")
    parser.add_argument("--task", default="belt", choices=TASKS)
    parser.add_argument("--policy", default=EXPERT, help="a bundle; the expert without one")
    parser.add_argument("--delay-ms", type=float, default=300, help="without a plan")
    parser.add_argument("--plan", type=Path, help="a full-size bundle that says it instead")
    parser.add_argument("--traces", type=Path, help="recorded bandwidths, with a plan")
    parser.add_argument("--seed", type=int, default=HELD_OUT)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    if (given.plan is None) != (given.traces is None):
        parser.error("--plan and --traces go together")
    base = Cell(given.task, given.policy, given.delay_ms / 1e3)
    if given.plan is not None:
        base = replace(base, delay_s=None, plan=str(given.plan), traces=str(given.traces))
    stage = Stage()
    try:
        both = [side(base, one) for one in given.sides]
    except ValueError as error:
        parser.error(str(error))
    left, right = (frames(stage, cell, given.seed, told) for cell, told in both)
    write(given.out, side_by_side(left, right))


if __name__ == "__main__":
    main()
