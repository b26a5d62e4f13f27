"""`serve`: the cloud side of a deployment."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from vlacut.api import serve
from vlacut.api.cluster.following import Follower
from vlacut.api.cluster.workers import read_workers
from vlacut.cli.arguments import IN_PLACE, INSECURE, PROVIDER, TLS, TRUSTED, bundles_of
from vlacut.cli.deploying.logs import log_to_stderr
from vlacut.cli.show.output import console, json_option, print_json, size
from vlacut.errors import InputError
from vlacut.hardware import parse_bytes
from vlacut.runtime.cloud.directory import Directory
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.wire.sockets import parse_address, written


@click.command("serve")
@click.argument(
    "paths", metavar="BUNDLE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=7000, show_default=True, type=click.IntRange(0, 65535), help="0: a free one."
)
@TLS
@INSECURE
@TRUSTED
@click.option(
    "--robots", default=64, show_default=True, type=click.IntRange(1), help="Most at a time."
)
@click.option("--memory", help="Of this machine, e.g. 40GB; the plan's device's without it.")
@IN_PLACE
@PROVIDER
@click.option(
    "--watch", is_flag=True, help="Follow the folder BUNDLE: serve what comes, retire what goes."
)
@click.option(
    "--cluster", type=click.Path(path_type=Path), help="TOML of the servers that share the robots."
)
@click.option("--batch", default="", help="Robots at once, of those compiled: 1,2,4; or off.")
@click.option("--emulate", is_flag=True, help="Take the plan's times, and compute nothing.")
@click.option("--metrics", metavar="[HOST:]PORT", help="Serve /metrics and /healthz over HTTP.")
@click.option("--log-json", is_flag=True, help="Log an object a line.")
@json_option
def serve_command(
    paths: tuple[Path, ...],
    host: str,
    port: int,
    tls: Path | None,
    insecure: bool,
    trusted: Path | None,
    robots: int,
    memory: str | None,
    watch: bool,
    cluster: Path | None,
    batch: str,
    emulate: bool,
    in_place: bool,
    provider: str,
    metrics: str | None,
    log_json: bool,
    as_json: bool,
) -> None:
    """Serve the cloud side of a bundle, or of several.

    Of several, or of a folder of them, each is loaded for its first robot, and unloaded when memory
    is needed while it has none. It runs until SIGTERM or Ctrl-C; then steps that have begun are
    ended first.
    """
    log_to_stderr("serve", log_json)
    found = [bundle for path in paths for bundle in bundles_of(path)]
    if watch and (len(paths) > 1 or found[0] == paths[0]):
        raise InputError("--watch follows one folder of bundles: name that alone")
    if cluster is not None and metrics is None:
        raise InputError("the servers of a cluster ask each other there: give --metrics, too")
    workers = read_workers(cluster) if cluster is not None else ()
    directory = Directory() if workers else None
    server = serve(
        paths[0] if watch else found[0] if len(found) == 1 else found,
        host,
        port,
        tls=tls,
        insecure=insecure,
        trusted=trusted,
        most_robots=robots,
        watch=watch,
        emulate=emulate,
        in_place=in_place,
        provider=provider,
        memory=parse_bytes(memory) if memory else None,
        directory=directory,
        batch=batch,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.shutdown())
    address = written(*server.address)
    try:
        watched = _serve_metrics(server, metrics) if metrics else ""
    except InputError:
        server.close()
        raise
    if as_json:
        robots_json = {"most": server.most_robots, "bytes_each": server.memory.robot}
        served = [
            {"path": str(path), "digest": one.digest.hex()}
            for path, one in zip(found, server.bundles, strict=True)
        ]
        print_json(
            {
                "address": address,
                "bundle": str(found[0]),
                "bundles": served,
                "metrics": watched,
                "robots": robots_json,
            }
        )
    else:
        room = f"up to {server.most_robots} robots"
        if len(found) == 1:
            room += f", {size(server.memory.robot)} of tensors each"
        what = str(found[0]) if len(found) == 1 else f"{len(found)} bundles"
        console().print(f"serving {what} on {address}: {room}; Ctrl-C ends it", markup=False)
    follower = Follower(workers, server, directory) if directory is not None else None
    if follower is not None:
        follower.start()
    server.serve_forever()
    if follower is not None:
        follower.close()


def _serve_metrics(server: Server, place: str) -> str:
    """HOST:PORT where /metrics and /healthz are; on loopback unless a host is given."""
    try:
        from vlacut.api.metrics import serve_metrics
    except ImportError as error:
        raise InputError(f"metrics need {error.name}: pip install 'vlacut[metrics]'") from error
    host, port = parse_address(f"127.0.0.1:{place}" if place.isdigit() else place)
    return written(*serve_metrics(server, host, port).address)
