"""Endpoints as they are asked for: a wire, an address, what is sent, and what is said first."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vlacut.errors import InputError
from vlacut.integrations.fields import Field, parse_field
from vlacut.integrations.openpi.policy import OpenpiPolicy
from vlacut.integrations.stepping import Stepped
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.wire.sockets import parse_address, written

# Packages that each wire needs, which its extra of this distribution installs.
WIRES = {"openpi": ("msgpack", "websockets"), "lerobot": ("grpc",)}
_MOST_METADATA = 1 << 20


@dataclass(frozen=True)
class Endpoint:
    """What `--serve` and what goes with it ask for.

    Attributes:
        wire: of `WIRES`.
        address: host and port.
        fields: what the clients' keys are.
        metadata: what clients are told first; empty for what is known of the bundle.
    """

    wire: str
    address: tuple[str, int]
    fields: tuple[Field, ...]
    metadata: dict[str, Any]


class EndpointServer(Protocol):
    """A wire's server, which listens.

    Attributes:
        policy: that answers.
        address: host and port it listens on.
    """

    policy: OpenpiPolicy
    address: tuple[str, int]

    def serve_forever(self) -> None:
        """Serve until `shutdown`."""

    def shutdown(self) -> None:
        """Listen no more, and end what is connected."""


def read_endpoint(
    text: str | None, mapped: Sequence[str], metadata: Path | None
) -> Endpoint | None:
    """The endpoint that is asked for; None if none is.

    Raises InputError if a word does not parse, a file cannot be read, or a library is missing.
    """
    if text is None:
        if mapped or metadata:
            raise InputError("--map and --metadata are of an endpoint: give its --serve")
        return None
    wire, mark, address = text.partition("://")
    if not mark or wire not in WIRES:
        raise InputError(
            f"--serve {text!r}: write {' or '.join(f'{one}://HOST:PORT' for one in WIRES)}"
        )
    for name in WIRES[wire]:
        if importlib.util.find_spec(name) is None:
            raise InputError(f"--serve needs {name}: pip install 'vlacut[{wire}]'")
    if metadata and wire != "openpi":
        raise InputError(
            "--metadata is what openpi's clients are told first; LeRobot's ask for none"
        )
    fields = tuple(map(parse_field, mapped))
    return Endpoint(wire, parse_address(address), fields, _metadata(metadata) if metadata else {})


def open_endpoint(
    endpoint: Endpoint,
    session: EdgeSession,
    *,
    chunk: str = "",
    fixed: Mapping[str, np.ndarray],
    rate: float | None = None,
    insecure: bool = False,
    watch: Callable[[Stepped], None] = lambda _: None,
) -> EndpointServer:
    """The endpoint's server, which listens; options as of `OpenpiPolicy` and the servers."""
    policy = OpenpiPolicy(session, chunk, endpoint.fields, fixed, rate, watch)
    host, port = endpoint.address
    if endpoint.wire == "lerobot":
        from vlacut.integrations.lerobot.server import LerobotServer

        return LerobotServer(policy, host, port, insecure=insecure, rate=rate)
    from vlacut.integrations.openpi.server import OpenpiServer

    return OpenpiServer(policy, host, port, insecure=insecure, metadata=endpoint.metadata)


def url_of(endpoint: Endpoint, server: EndpointServer) -> str:
    """Where it listens, as `--serve` has it."""
    return f"{endpoint.wire}://{written(*server.address)}"


def _metadata(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_METADATA:
            raise InputError(f"{path}: is larger than {_MOST_METADATA} bytes; say less to clients")
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as a JSON object: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: is no JSON object")
    return found
