"""Running a bundle: its two sides, and the proof that its cuts compute what the model does."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vlacut.api.watching import Watch, bundles_in, verify_whole
from vlacut.bundle.halves import weights_of
from vlacut.bundle.holding import shared_weights
from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import open_bundle, read_bundle
from vlacut.bundle.store import WeightStore
from vlacut.errors import InputError, Progress, unwatched
from vlacut.hardware import Side, parse_link, read_recordings
from vlacut.plans.batch import OFF, parse_batches
from vlacut.runtime.cloud.deployment import Offer
from vlacut.runtime.cloud.directory import Directory
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.engines import cloud_engines, computes, edge_engines, warm_up
from vlacut.runtime.fresh import FRESH
from vlacut.runtime.network.conformal import Conformal
from vlacut.runtime.network.estimate import sampling_interval
from vlacut.runtime.network.lstm import Lstm, read_weights
from vlacut.runtime.network.predictors import LSTM, Predictor, make_predictor
from vlacut.runtime.network.selectors import make_selector
from vlacut.runtime.verification import CutResult, verify_bundle
from vlacut.runtime.wire.own_keys import check_keys
from vlacut.runtime.wire.security import cloud_context, edge_context
from vlacut.runtime.wire.sockets import parse_addresses, written

_log = logging.getLogger("vlacut.server")
_edge_log = logging.getLogger("vlacut.edge")


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
    opened = _open(bundle, trusted, None if emulate else Side.EDGE)
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
        tls=_keys(tls, cloud=False),
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


def serve(
    bundle: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    tls: str | os.PathLike[str] | None = None,
    insecure: bool = False,
    trusted: str | os.PathLike[str] | None = None,
    most_robots: int = 64,
    memory: int | None = None,
    emulate: bool = False,
    in_place: bool = False,
    provider: str = "",
    watch: bool = False,
    directory: Directory | None = None,
    batch: str = "",
) -> Server:
    """The cloud side of a bundle, or of several, listening; call its `serve_forever`.

    Args:
        bundle: path of the bundle; of several, each is loaded for its first robot, and unloaded
            when memory is needed while it has none, see `vlacut.runtime.cloud.hosting`.
        host: address to listen on.
        port: 0 takes a free one, see `Server.address`.
        tls: the cloud's folder of `vlacut keys`; needed off loopback.
        insecure: go off loopback without keys.
        trusted: the public key that must have signed the bundle, see `vlacut.security.signing`.
        most_robots: how many robots may be connected at a time; more are refused.
        memory: bytes that the machine has for this; None for what the plan's device has.
        emulate: wait for the time that the plan predicts for each part, and compute nothing.
        in_place: run on the bundle's own files, see `vlacut.bundle.holding`.
        provider: what the back end runs on, e.g. `cuda`, instead of what the bundle says; several
            in order of preference with `+` between them.
        watch: `bundle` is a folder of bundles, and the server follows it until it is shut down:
            see `vlacut.api.watching`.
        directory: of other servers of a cluster, see `vlacut.api.cluster`.
        batch: how many robots may run at once, of what the bundle has engines for (`compile
            --batch`): `1,2,4`; `off` for one; empty for all.

    Every engine of a bundle alone runs once on zeros before this returns. Events go to the logger
    `vlacut.server`, and so does a warning if no variant has work for the cloud.
    Raises BundleError, BackendError, or InputError as `Server` does.
    """
    folder = Path(bundle) if watch and isinstance(bundle, (str, os.PathLike)) else None
    paths = [Path(bundle)] if isinstance(bundle, (str, os.PathLike)) else [*map(Path, bundle)]
    found = sorted(bundles_in(folder)) if folder is not None else paths
    if not found:
        raise InputError("there is no bundle to serve: name one")
    alone = len(found) == 1 and folder is None
    sizes = None if not batch else parse_batches("" if batch == OFF else batch)
    store = None if in_place or alone else shared_weights(found[0].parent)

    def offer(path: Path) -> Offer:
        opened = _open(path, trusted, None if emulate else Side.CLOUD)
        return _offer(opened, emulate, in_place, provider, store, sizes)

    def verified(path: Path) -> Offer:
        made = offer(path)
        if not emulate:
            verify_whole(path)
        return made

    offers = [offer(path) for path in found]
    server = Server(
        offers,
        host,
        port,
        tls=_keys(tls, cloud=True),
        insecure=insecure,
        most_robots=most_robots,
        memory=memory,
        directory=directory,
    )
    if folder is not None:
        served = {path: made.digest.hex() for path, made in zip(found, offers, strict=True)}
        Watch(folder, server, served, verified).start()
    return server


def _offer(
    opened: Bundle,
    emulate: bool,
    in_place: bool,
    provider: str,
    store: WeightStore | None,
    sizes: Sequence[int] | None,
) -> Offer:
    """A bundle for a server."""
    if opened.plan.one_side is Side.EDGE:
        _log.warning(
            "the plan of %s runs everything on the edge: no robot will ask this server for "
            "anything, and vlacut run needs no --cloud",
            opened.plan.program,
        )

    there = {one.robots for part in opened.parts(Side.CLOUD) for one in part.batches}
    lacks = sorted({*(sizes or ())} - there)
    if lacks:
        _log.warning(
            "%s has no engines for %s robots at once; compile it with --batch",
            opened.root.name,
            ", ".join(map(str, lacks)),
        )
    batches = there if sizes is None else {*sizes}

    def load() -> Mapping[str, Any]:
        engines = cloud_engines(opened, emulate, in_place, provider, store, batches)
        if computes(opened, emulate):
            warm_up(opened.parts(Side.CLOUD), engines, opened.plan)
        return engines

    def unload() -> None:
        if store is not None:
            store.drop(opened.digest)

    weights = {} if store is None else weights_of(opened.root, opened.manifest, Side.CLOUD)
    initial, name = opened.initial_state(), opened.root.name
    return Offer(opened.plan, opened.digest, load, unload, initial, weights, name)


def _keys(folder: str | os.PathLike[str] | None, *, cloud: bool) -> ssl.SSLContext | None:
    """TLS with the keys of a folder, once it is known that another machine would take them."""
    if folder is None:
        return None
    for line in check_keys(Path(folder), cloud=cloud):
        (_log if cloud else _edge_log).warning("%s", line)
    return (cloud_context if cloud else edge_context)(Path(folder))


def verify(
    bundle: str | os.PathLike[str],
    *,
    fresh: int = FRESH,
    observations: str | os.PathLike[str] | None = None,
    provider: str = "cpu",
    progress: Progress = unwatched,
) -> tuple[CutResult, ...]:
    """Compare the numbers of every cut of a bundle with those of the uncut model, on this machine.

    Args:
        bundle: path of the bundle.
        fresh: how many variations of the golden observation codecs are tried on, too.
        observations: a file or folder of recorded observations, instead of variations.
        provider: what back ends that have several run on.
        progress: called with what is being done, how much is done, and how much there is.

    Returns the comparisons. Each one's `passed` says whether the bundle allows the difference, and
    its `warning` what a user should know. Raises InputError, BundleError or BackendError.
    """
    recorded = None if observations is None else Path(observations)
    return verify_bundle(
        open_bundle(Path(bundle)),
        progress,
        fresh=fresh,
        observations=recorded,
        provider=provider,
    )


def _open(
    bundle: str | os.PathLike[str], trusted: str | os.PathLike[str] | None, side: Side | None
) -> Bundle:
    """A bundle by its manifest, signed by whom it must be, with the files of a side.

    What holds its engines checks the files; None if they are emulated, of the manifest alone.
    """
    opened = read_bundle(Path(bundle))
    if side is not None:
        opened.require(side)
    if trusted is not None:
        try:
            from vlacut.security.signing import check_signature
        except ImportError as error:
            raise InputError(
                f"checking a signature needs {error.name}: pip install 'vlacut[keys]'"
            ) from error
        check_signature(opened, Path(trusted))
    return opened
