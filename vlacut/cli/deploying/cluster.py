"""`cluster`: many servers, which Ray places and restarts, or which stand behind HAProxy."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from vlacut.api.cluster.asking import fetch_status
from vlacut.api.cluster.balancing import haproxy_configuration
from vlacut.api.cluster.following import bundles_of
from vlacut.api.cluster.on_ray import RayCluster
from vlacut.api.cluster.settings import read_settings
from vlacut.api.cluster.workers import read_workers, write_workers
from vlacut.cli.deploying.logs import log_to_stderr
from vlacut.cli.show.output import check_place, console, json_option, print_json
from vlacut.errors import InputError, PeerLost, WireError
from vlacut.runtime.cloud.directory import Standing

_TEND_S = 5.0
_log = logging.getLogger("vlacut.cluster")


@click.group("cluster")
def cluster_command() -> None:
    """Start many servers, which share robots."""


@cluster_command.command("haproxy")
@click.argument("path", metavar="CLUSTER.toml", type=click.Path(path_type=Path))
@click.option("--listen", default=":7000", show_default=True, help="Where HAProxy listens.")
@json_option
def haproxy_command(path: Path, listen: str, as_json: bool) -> None:
    """Print a configuration of HAProxy for the servers that CLUSTER.toml lists.

    They have to run: each is asked which bundles it has.
    """
    workers, digests, silent = read_workers(path), dict[str, frozenset[bytes]](), dict[str, str]()
    for worker in workers:
        try:
            found = fetch_status(*worker.metrics)
        except WireError as error:
            silent[worker.address] = str(error)
        else:
            # One that drains, too: it is soon there again, and HAProxy asks each how it is.
            digests[worker.address] = bundles_of(found)
    if not digests:
        raise PeerLost(f"no server of {path} answers: {next(iter(silent.values()))}")
    text = haproxy_configuration(workers, digests, listen)
    if as_json:
        print_json({"configuration": text, "silent": silent})
        return
    for why in silent.values():
        click.echo(f"left out of all bundles: {why}", err=True)
    click.echo(text, nl=False)


@cluster_command.command("up")
@click.argument("path", metavar="CLUSTER.toml", type=click.Path(path_type=Path))
@click.option("--ray", "address", default="", help="Of Ray's head; without it, of RAY_ADDRESS.")
@click.option(
    "--list",
    "lists",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Keep a list of the servers there: .toml for vlacut status, .json for Prometheus.",
)
@json_option
def up_command(path: Path, address: str, lists: tuple[Path, ...], as_json: bool) -> None:
    """Start the servers of CLUSTER.toml on Ray, and drain them on SIGTERM or Ctrl-C.

    Robots may be given the address of any of them. Without a Ray that runs, one is started on this
    machine.
    """
    log_to_stderr("cluster up", False)
    settings = read_settings(path)
    if lists and not settings.metrics:
        raise InputError(f"--list is of servers' pages of metrics: write metrics = 9100 in {path}")
    for one in lists:
        check_place(one)
    with RayCluster(settings, address) as cluster:
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        found = cluster.ready(goes_on=lambda: not ended.is_set())
        if found:
            _say(found, as_json)
        while True:
            for one in lists:
                _keep_list(one, found)
            if ended.wait(_TEND_S):
                return
            cluster.tend()
            found = cluster.standings() if lists else []


def _keep_list(file: Path, found: Sequence[Standing]) -> None:
    """Write a list; if that fails, the servers go on, and the next round tries again."""
    try:
        write_workers(file, found)
    except InputError as error:
        _log.warning("the list is as it was: %s", error)


def _say(found: Sequence[Standing], as_json: bool) -> None:
    if as_json:
        print_json(servers_json(found))
        return
    for standing in found:
        page = f", metrics on {standing.metrics}" if standing.metrics else ""
        console().print(f"serving on {standing.address}{page}", markup=False)
    console().print("Ctrl-C ends them", markup=False)


def servers_json(standings: Sequence[Standing]) -> dict[str, Any]:
    """The servers that were started, as `cluster up --json` prints them."""
    return {
        "servers": [
            {"address": one.address, "robots": one.most, "metrics": one.metrics}
            for one in standings
        ]
    }
