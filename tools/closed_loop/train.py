"""Trains the bench's policies by imitation of the scripted experts, with DAgger.

    python -m tools.closed_loop.train pick belt --keep rounds --own 3
    python -m tools.closed_loop.train insert --keep felt --rounds 5 --steps 800

`flow` learns first, together with the prefix; it drives the episodes of DAgger, which the expert
labels. `tokens` has that prefix as it is, and learns its head from the same samples, and from
episodes of DAgger that it drives itself. The prefix also learns to say what the expert knows of the
scene, which pictures only show; nobody tells it when it drives. `touch`, for `insert`, learns
alone.

Weights go to `tools/closed_loop/weights/NAME.safetensors` in float16. The same seed, the same
number of processes and the same versions give the same weights on the same machine. Processes share
the work: each gathers its share of a round's episodes into `--keep`, and learns from its share of
every batch. A run that was stopped goes on after the last round kept there.
"""

from __future__ import annotations

import argparse
import time
from multiprocessing import get_context
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from .policies.flow import FlowPolicy
from .policies.heads import Net, save
from .policies.tokens import TokenPolicy
from .policies.touching import TouchPolicy
from .simulation.tasks import TASKS
from .training.gathering import Effort, fill
from .training.learning import Learner, fit
from .training.samples import Samples, Share

WEIGHTS = Path(__file__).parent / "weights"
_RATE = 2e-3
_out = Console()


class Training:
    """Both policies, turn by turn.

    Args:
        effort: how much is done.
        weights: folder of what drives; it is written after every turn.
        keep: folder of turns that are done.
        share: of the work.
    """

    def __init__(self, effort: Effort, weights: Path, keep: Path, share: Share) -> None:
        self._effort, self._weights, self._keep, self._share = effort, weights, keep, share
        self._samples, self._began = Samples(), time.monotonic()

    def run(self) -> None:
        """Train `flow`, and `tokens` over its prefix; or `touch`."""
        torch.set_num_threads(1)
        self._share.begin()
        torch.manual_seed(self._effort.seed)
        if self._effort.touches:
            touch = Learner(TouchPolicy())
            for turn in self._effort.turns:
                self._turn("touch", touch, turn)
            return
        flow = Learner(FlowPolicy())
        for turn in self._effort.turns:
            self._turn("flow", flow, turn)
        torch.manual_seed(self._effort.seed)
        tokens = TokenPolicy()
        tokens.load_state_dict({**tokens.state_dict(), **_shared(flow.net)})
        learner = Learner(tokens, lent=True)
        for turn in self._effort.own:
            self._turn("tokens", learner, turn)

    def _turn(self, name: str, learner: Learner, turn: int) -> None:
        effort, share, folder = self._effort, self._share, self._keep / f"round{turn}"
        if effort.gathers(turn) and not (folder / f"samples{share.rank}.npz").is_file():
            actor = name if turn else ""
            self._say(f"round {turn}: {fill(effort, turn, share, folder, self._weights, actor)}")
        share.meet()
        for rank in range(share.ranks):
            for kind in ("scattered", "samples"):
                self._samples.read(folder / f"{kind}{rank}.npz")
        if turn == 0:
            learner.normalise(self._samples)
        done = folder / f"{name}.safetensors"
        if not done.is_file():
            rate = _RATE * (1 if effort.begins(turn) else 0.7)
            seed = 1000 * effort.seed + turn
            told = fit(learner, self._samples, effort.taken(turn), rate, seed, share)
            self._say(f"{name} {told}")
            _write(name, learner.net, self._weights, folder, share)
        learner.net.load_state_dict(load_file(done))

    def _say(self, what: str) -> None:
        spent = f"{time.monotonic() - self._began:.0f} s, {time.process_time():.0f} of processor"
        _out.print(f"{spent}, {len(self._samples)} samples: {what}", soft_wrap=True)


def _shared(net: Net) -> dict[str, torch.Tensor]:
    """The prefix, and what proprioception is normalised by."""
    names = ("prefix.", "mean", "deviation")
    return {key: value for key, value in net.state_dict().items() if key.startswith(names)}


def _write(name: str, net: Net, weights: Path, folder: Path, share: Share) -> None:
    """To be run with, in float16; and to go on from, as they are."""
    if share.rank == 0:
        save(net, weights / f"{name}.safetensors")
        folder.mkdir(parents=True, exist_ok=True)
        every = {key: value.clone() for key, value in net.state_dict().items()}
        save_file(every, folder / f"{name}.safetensors")
    share.meet()


def _rank(rank: int, effort: Effort, weights: Path, keep: Path, ranks: int) -> None:
    Training(effort, weights, keep, Share(rank, ranks)).run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="+", choices=sorted(TASKS))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the episodes")
    parser.add_argument("--steps", type=int, default=1000, help="of AdamW, a round")
    parser.add_argument("--rounds", type=int, default=3, help="of DAgger that flow or touch drives")
    parser.add_argument("--own", type=int, default=0, help="of those that tokens drives")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ranks", type=int, default=1, help="processes")
    parser.add_argument(
        "--rank", type=int, help="only this process; the others are started so, too"
    )
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder to write to")
    parser.add_argument("--keep", type=Path, required=True, help="folder for rounds that are done")
    given = parser.parse_args()
    effort = Effort(
        tuple(given.tasks), given.scale, given.steps, given.rounds, given.own, given.seed
    )
    if effort.touches and len(effort.tasks) > 1:
        parser.error("insert has a policy of its own: train it alone")
    if given.rank is not None:
        _rank(given.rank, effort, given.weights, given.keep, given.ranks)
        return
    others = (effort, given.weights, given.keep, given.ranks)
    processes = [
        get_context("spawn").Process(target=_rank, args=(rank, *others))
        for rank in range(given.ranks)
    ]
    for one in processes:
        one.start()
    for one in processes:
        one.join()
    raise SystemExit(max(abs(one.exitcode or 0) for one in processes))


if __name__ == "__main__":
    main()
