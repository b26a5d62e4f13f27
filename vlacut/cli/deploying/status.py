"""`status`: what a server does now, from its page of metrics."""

from __future__ import annotations

import http.client
import json
from typing import Any

import click

from vlacut.cli.show.output import console, json_option, print_json, say_next, size, table
from vlacut.errors import PeerLost, WireError, one_line
from vlacut.runtime.wire.sockets import parse_address, written

_TIMEOUT_S = 5.0
_MOST_BYTES = 1 << 22


@click.command("status")
@click.argument("address", metavar="HOST:PORT")
@json_option
def status_command(address: str, as_json: bool) -> None:
    """Show the bundles, robots and load of a server.

    HOST:PORT is that of its --metrics.
    """
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


def fetch_status(host: str, port: int) -> dict[str, Any]:
    """What `/status` of a server says.

    Raises PeerLost if nobody answers, WireError if it is no server's.
    """
    where = written(host, port)
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/status")
        answer = connection.getresponse()
        data = answer.read(_MOST_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        raise PeerLost(
            f"{where} does not answer: {one_line(error)}; it is the port of vlacut serve --metrics"
        ) from error
    finally:
        connection.close()
    try:
        if answer.status != http.client.OK or len(data) > _MOST_BYTES:
            raise ValueError(f"it answers {answer.status}")
        found: dict[str, Any] = json.loads(data)
        _check(found)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WireError(
            f"{where} is no page of vlacut serve --metrics: {one_line(error)}"
        ) from error
    return found


_NUMBERS = ("robots", "most_robots", "load", "memory_bytes")
_OF_A_BUNDLE = ("robots", "steps", "step_ms", "weights_bytes", "robot_bytes", "loaded")


def _check(found: Any) -> None:
    """Raises ValueError, KeyError or TypeError if it is not what `status_of` makes."""
    for name in ("version", "health"):
        found[name] = one_line(found[name])
    numbers = [found[name] for name in _NUMBERS]
    for one in found["bundles"]:
        one["name"], one["digest"] = one_line(one["name"]), one_line(one["digest"])
        numbers += [one[name] for name in _OF_A_BUNDLE]
    if not all(isinstance(number, (int, float)) for number in numbers):
        raise ValueError("a figure of it is no number")


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
