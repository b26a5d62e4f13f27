"""Running a bundle: both sides of it, and the proof that its cuts compute what the model does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vlacut.bundle.manifest import Bundle, open_bundle
from vlacut.errors import InputError, Progress, unwatched
from vlacut.hardware import parse_link, read_recordings
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.engines import load_engines
from vlacut.runtime.network.estimate import sampling_interval
from vlacut.runtime.network.lstm import read_weights
from vlacut.runtime.network.predictors import LSTM, Predictor, make_predictor
from vlacut.runtime.network.selectors import make_selector
from vlacut.runtime.verification import CutResult, verify_bundle
from vlacut.runtime.wire.security import cloud_context, edge_context
from vlacut.runtime.wire.sockets import parse_address
from vlacut.side import Side


class Policy(EdgeSession):
    """A bundle's edge side, connected: see `connect`."""

    def __init__(
        self,
        bundle: Bundle,
        address: tuple[str, int] | None,
        timeout: float,
        *,
        emulate: bool = False,
        **options: Any,
    ) -> None:
        engines = load_engines(bundle, Side.EDGE, emulate)
        super().__init__(
            *(bundle.plan, bundle.digest, engines, address, timeout),
            initial=bundle.initial_state(),
            **options,
        )
        self.bundle = bundle

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
) -> Policy:
    """Open a bundle's edge side and connect it to its cloud side.

    Args:
        bundle: path of the bundle.
        cloud: `HOST:PORT` of `vlacut serve`; not needed if everything runs on the edge.
        timeout: seconds without progress after which the cloud counts as lost.
        deadline: seconds within which a step returns, see `vlacut.runtime.edge.session`; None for
            no limit.
        hedge: let the edge make a step alone beside the cloud, once it must to meet the deadline.
        tls: the robot's folder of `vlacut keys`; needed off loopback.
        insecure: go off loopback without it.
        trusted: public key that must have signed the bundle, see `vlacut.security.signing`.
        selector: name of the variant to run, or how to choose one step by step: `argmin`,
            `quantile`, `thresholds` or `random`, see `vlacut.runtime.network.selectors`.
        predictor: of the bandwidth, see `vlacut.runtime.network.predictors`; the bundle's trained
            one if empty, or `ewma` if it has none.
        history: recorded bandwidths to find `thresholds` on, a file or a folder; without them they
            are found as steps come.
        link: what the network is taken for until something crossed, as for `compile`; the plan's
            if empty.
        emulate: take the time that the plan predicts for every part, and compute nothing.

    Returns a context manager with `step(observation) -> action`, both dicts of numpy arrays, and
    `reset()`, which begins an episode.
    Raises InputError, BundleError, BackendError, PeerLost, PeerRefused or WireError.
    """
    opened = _open(bundle, trusted)
    name = predictor or (LSTM if opened.predictor_path else "ewma")
    make_predictor(name, opened.predictor_path)  # what is wrong with it is said now
    interval_s = sampling_interval(opened.plan)
    if name == LSTM and opened.predictor_path:
        interval_s = read_weights(opened.predictor_path).interval_s

    def predict() -> Predictor:
        return make_predictor(name, opened.predictor_path)

    return Policy(
        opened,
        parse_address(cloud) if cloud else None,
        timeout,
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
        tls=edge_context(Path(tls)) if tls is not None else None,
        insecure=insecure,
        emulate=emulate,
    )


def _samples(history: Path, interval_s: float) -> list[tuple[float, ...]]:
    """Recorded bandwidths at a sampling interval."""
    recordings = read_recordings(history).values()
    return [trace.sampled(interval_s) for pieces in recordings for trace in pieces]


def serve(
    bundle: str | os.PathLike[str],
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    tls: str | os.PathLike[str] | None = None,
    insecure: bool = False,
    trusted: str | os.PathLike[str] | None = None,
    most_robots: int = 64,
    memory: int | None = None,
    emulate: bool = False,
) -> Server:
    """The bundle's cloud side, listening; call its `serve_forever`.

    Args:
        bundle: path of the bundle.
        host: address to listen on.
        port: 0 takes a free one, see `Server.address`.
        tls: the cloud's folder of `vlacut keys`; needed off loopback.
        insecure: go off loopback without it.
        trusted: public key that must have signed the bundle, see `vlacut.security.signing`.
        most_robots: at a time; more are refused.
        memory: bytes that the machine has for this; what the plan's device has, if None.
        emulate: take the time that the plan predicts for every part, and compute nothing.

    What happens is logged to the logger `vlacut.server`.
    Raises BundleError, BackendError, or InputError as `Server` does.
    """
    opened = _open(bundle, trusted)
    engines = load_engines(opened, Side.CLOUD, emulate)
    return Server(
        opened.plan,
        opened.digest,
        engines,
        host,
        port,
        tls=cloud_context(Path(tls)) if tls is not None else None,
        insecure=insecure,
        most_robots=most_robots,
        memory=memory,
        initial=opened.initial_state(),
    )


def verify(
    bundle: str | os.PathLike[str], *, progress: Progress = unwatched
) -> tuple[CutResult, ...]:
    """Compare every cut of a bundle with the uncut model, by its numbers, on this machine.

    Args:
        bundle: path of the bundle.
        progress: called with what is done, how much of it, and of how much.

    Returns the comparisons; `passed` says of each whether the bundle allows the difference. Raises
    BundleError or BackendError.
    """
    return verify_bundle(open_bundle(Path(bundle)), progress)


def _open(bundle: str | os.PathLike[str], trusted: str | os.PathLike[str] | None) -> Bundle:
    """A bundle, checked, and signed by whom it must be."""
    opened = open_bundle(Path(bundle))
    if trusted is not None:
        try:
            from vlacut.security.signing import check_signature
        except ImportError as error:
            raise InputError(
                f"checking a signature needs {error.name}: pip install 'vlacut[keys]'"
            ) from error
        check_signature(opened, Path(trusted))
    return opened
