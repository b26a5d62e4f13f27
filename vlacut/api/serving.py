"""The server's side of a bundle, or of several."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlacut.api.opening import open_signed, tls_context
from vlacut.api.watching import Watch, bundles_in, verify_whole
from vlacut.bundle.halves import weights_of
from vlacut.bundle.holding import shared_weights
from vlacut.bundle.opened import Bundle
from vlacut.bundle.store import WeightStore
from vlacut.errors import InputError
from vlacut.hardware import Side
from vlacut.plans.batch import OFF, parse_batches
from vlacut.runtime.cloud.deployment import Offer
from vlacut.runtime.cloud.directory import Directory
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.engines import cloud_engines, computes, warm_up

_log = logging.getLogger("vlacut.server")


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
        opened = open_signed(path, trusted, None if emulate else Side.CLOUD)
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
        tls=tls_context(tls, cloud=True),
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
