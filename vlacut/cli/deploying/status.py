"""`status`: what a server does now, or all of a cluster, from their pages of metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vlacut.api.cluster.asking import fetch_status
from vlacut.api.cluster.workers import read_workers
from vlacut.cli.show.output import console, json_option, print_json, say_next, size, table
from vlacut.errors import PeerLost, WireError
from vlacut.runtime.wire.sockets import parse_address


@click.command("status")
@click.argument("address", metavar="HOST:PORT|CLUSTER.toml")
@json_option
def status_command(address: str, as_json: bool) -> None:
    """Show the bundles, robots and load of servers.

    HOST:PORT is that of --metrics of one; a .toml file lists several.
    """
    if address.endswith(".toml"):
        _show_cluster(Path(address), as_json)
        return
    host, port = parse_address(address)
    found = fetch_status(host, port)
    if as_json:
        print_json(found)
        return
    out = console()
    columns = ("bundle", "digest", "", "robots", "steps", "ms a step", "weights", "a robot")
    rows = [_row(one) for one in found["bundles"]]
    title = f"{address}, vlacut {found['version']}: {found['health']}"
    out.print(table(title, columns, rows, left=3))
    memory = f" of {size(found['memory_bytes'])}" if found["memory_bytes"] else ""
    held = sum(one["weights_bytes"] for one in found["bundles"] if one["loaded"])
    out.print(
        f"\n{found['robots']} of {found['most_robots']} robots; engines take {found['load']:.2f} s "
        f"of every second; weights at most {size(held)}{memory}"
    )
    say_next("vlacut rollout BUNDLE FOLDER")


def _show_cluster(path: Path, as_json: bool) -> None:
    """A line for each server; one that does not answer says why, and the others are shown."""
    found: dict[str, dict[str, Any]] = {}
    for worker in read_workers(path):
        try:
            found[worker.address] = fetch_status(*worker.metrics)
        except WireError as error:
            found[worker.address] = {"health": str(error)}
    if as_json:
        print_json({"servers": found})
    else:
        columns = ("server", "robots", "of", "load", "bundles", "health")
        rows = [_server_row(address, each) for address, each in found.items()]
        console().print(table(str(path), columns, rows, left=1))
    if not any("robots" in each for each in found.values()):
        raise PeerLost(f"no server of {path} answers")


def _server_row(address: str, found: dict[str, Any]) -> tuple[str, ...]:
    if "robots" not in found:
        return (address, "", "", "", "", found["health"])
    bundles = ", ".join(f"{one['name']} {one['digest'][:12]}" for one in found["bundles"])
    numbers = str(found["robots"]), str(found["most_robots"]), f"{found['load']:.2f}"
    return (address, *numbers, bundles, found["health"])


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    return (
        one["name"],
        one["digest"][:12],
        "loaded" if one["loaded"] else "not loaded",
        str(one["robots"]),
        str(one["steps"]),
        f"{one['step_ms']:.3g}" if one["steps"] else "",
        size(one["weights_bytes"]),
        size(one["robot_bytes"]),
    )
