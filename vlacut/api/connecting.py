"""The robot's side of a bundle, connected to the server's."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from vlacut.api.opening import open_signed, tls_context
from vlacut.bundle.opened import Bundle
from vlacut.hardware import Side, parse_link, read_recordings
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.engines import computes, edge_engines
from vlacut.runtime.network.conformal import Conformal
from vlacut.runtime.network.estimate import sampling_interval
from vlacut.runtime.network.lstm import Lstm, read_weights
from vlacut.runtime.network.predictors import LSTM, Predictor, make_predictor
from vlacut.runtime.network.selectors import make_selector
from vlacut.runtime.wire.sockets import parse_addresses, written


class Policy(EdgeSession):
    """A bundle's edge side, connected: see `connect`.

    Attributes:
        bundle: that runs.
        beside: connects another bundle, by its path, as this one was.
    """

    bundle: Bundle
    beside: Callable[[str | os.PathLike[str]], Policy]

    def __init__(
        self,
        bundle: Bundle,
        address: tuple[str, int] | None,
        timeout: float,
        *,
        emulate: bool = False,
        in_place: bool = False,
        provider: str = "",
        **options: Any,
    ) -> None:
        engines = edge_engines(bundle, emulate, in_place, provider)
        self._where = "no cloud" if address is None else f"cloud {written(*address)}"
        super().__init__(
            *(bundle.plan, bundle.digest, engines, address, timeout),
            initial=bundle.initial_state(),
            **options,
        )
        self.bundle = bundle
        if computes(bundle, emulate):
            self.warm_up()

    def __repr__(self) -> str:
        count = len(self.plan.variants)
        return (
            f"<Policy {self.plan.program}: {count} variant{'s' * (count > 1)}, {self._where}, "
            f"{self.steps} steps>"
        )

    def summary(self) -> str:
        """What runs where, and how the last step went, in a few lines."""
        last = self.last.summary() if self.steps else "no step was run yet"
        return f"{self.plan.summary()}\n{self._where}; {last}"

    def __enter__(self) -> Policy:
        return self


def connect(
    bundle: str | os.PathLike[str],
    cloud: str | None = None,
    *,
    timeout: float = 10.0,
    deadline: float | None = None,
    hedge: bool = False,
    tls: str | os.PathLike[str] | None = None,
    insecure: bool = False,
    trusted: str | os.PathLike[str] | None = None,
    selector: str = "chosen",
    predictor: str = "",
    history: str | os.PathLike[str] | None = None,
    link: str = "",
    emulate: bool = False,
    in_place: bool = False,
    provider: str = "",
    allow_nan: bool = False,
    seed: int = 0,
) -> Policy:
    """Open a bundle's edge side and connect it to its cloud side.

    Args:
        bundle: path of the bundle.
        cloud: `HOST:PORT` of `vlacut serve`, of a cluster that of any server, or of several with
            commas between; not needed if everything runs on the edge.
        timeout: seconds without progress after which the cloud counts as lost.
        deadline: seconds within which a step returns, see `vlacut.runtime.edge.session`; None for
            no limit.
        hedge: whether the edge also makes the step alone, once only that can meet the deadline.
        tls: the robot's folder of `vlacut keys`; needed off loopback.
        insecure: go off loopback without keys.
        trusted: the public key that must have signed the bundle, see `vlacut.security.signing`.
        selector: the name of the variant to run, or how to choose one at each step: `argmin`,
            `quantile`, `thresholds` or `random`, see `vlacut.runtime.network.selectors`.
        predictor: a predictor of the bandwidth, see `vlacut.runtime.network.predictors`. Empty
            takes the one trained for the bundle, or `ewma` if there is none.
        history: recorded bandwidths, a file or a folder, to find `thresholds` on. Without them,
            thresholds are found while steps run.
        link: the link that is assumed until something has crossed, as for `compile`; empty for the
            plan's.
        emulate: wait for the time that the plan predicts for each part, and compute nothing.
        in_place: run on the bundle's own files, see `vlacut.bundle.holding`.
        provider: what the back end runs on, e.g. `cuda`, instead of what the bundle says; several
            in order of preference with `+` between them.
        allow_nan: accept an observation that holds a NaN; otherwise it is refused.
        seed: of the noise that an observation lacks: step n has the same in every run.

    Every engine of the edge runs once on zeros before this returns, so the first step takes no
    longer than the others.

    Returns a context manager with `step(observation) -> action`, both dicts of numpy arrays, and
    `reset()`, which begins an episode.
    Raises InputError, BundleError, BackendError, PeerLost, PeerRefused or WireError.
    """
    opened = open_signed(bundle, trusted, None if emulate else Side.EDGE)
    entries = parse_addresses(cloud) if cloud else []
    name = predictor or (LSTM if opened.predictor_path else "ewma")
    predict, interval_s = _predictor(opened, name)
    policy = Policy(
        opened,
        entries[0] if entries else None,
        timeout,
        others=entries[1:],
        selector=make_selector(
            selector,
            opened.plan,
            deadline=deadline,
            history=_samples(Path(history), interval_s) if history is not None else (),
            predictor=predict,
        ),
        predictor=predict,
        interval_s=interval_s,
        link=parse_link(link) if link else None,
        deadline=deadline,
        hedge=hedge,
        tls=tls_context(tls, cloud=False),
        insecure=insecure,
        emulate=emulate,
        in_place=in_place,
        provider=provider,
        allow_nan=allow_nan,
        seed=seed,
    )
    policy.beside = partial(
        connect,
        cloud=cloud,
        timeout=timeout,
        deadline=deadline,
        hedge=hedge,
        tls=tls,
        insecure=insecure,
        trusted=trusted,
        selector=selector,
        predictor=predictor,
        history=history,
        link=link,
        emulate=emulate,
        in_place=in_place,
        provider=provider,
        allow_nan=allow_nan,
        seed=seed,
    )
    return policy


def _predictor(opened: Bundle, name: str) -> tuple[Callable[[], Predictor], float]:
    """What makes predictors of that name, and the seconds between their samples."""
    if name == LSTM and opened.predictor_path:
        data = opened.read(opened.manifest.predictor)
        weights = read_weights(opened.predictor_path, data)
        return lambda: Conformal(Lstm(weights)), weights.interval_s
    make_predictor(name)  # what is wrong with it is said now
    return lambda: make_predictor(name), sampling_interval(opened.plan)


def _samples(history: Path, interval_s: float) -> list[tuple[float, ...]]:
    """Recorded bandwidths at a sampling interval."""
    recordings = read_recordings(history).values()
    return [trace.sampled(interval_s) for pieces in recordings for trace in pieces]
