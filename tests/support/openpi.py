"""Clients and servers of openpi's wire, in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from websockets.sync.client import ClientConnection, connect

from vlacut.api import Policy
from vlacut.integrations.openpi.packing import pack, unpack
from vlacut.integrations.openpi.policy import OpenpiPolicy
from vlacut.integrations.openpi.server import OpenpiServer


@contextmanager
def endpoint(policy: OpenpiPolicy, **options: Any) -> Iterator[OpenpiServer]:
    server = OpenpiServer(policy, **options)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(10)
        assert not thread.is_alive()


@contextmanager
def client(server: OpenpiServer, path: str = "/", **options: Any) -> Iterator[ClientConnection]:
    """A client that has heard the metadata; it offers no compression, as openpi's."""
    host, port = server.address
    url = f"ws://{host}:{port}{path}"
    with connect(url, compression=None, max_size=None, proxy=None, **options) as made:
        yield made


def observed(session: Policy) -> dict[str, Any]:
    """The golden observation, as a client has it: without a batch, in double precision."""
    golden = session.bundle.golden("observation")
    return {name: array[0].astype(np.float64) for name, array in golden.items()}


def asked(socket: ClientConnection, message: object) -> Any:
    socket.send(message if isinstance(message, str) else pack(message))
    answer = socket.recv(20)
    return answer if isinstance(answer, str) else unpack(answer)
