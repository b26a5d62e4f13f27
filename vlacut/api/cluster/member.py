"""A server that is a member of a cluster, and the register of them. Neither knows of Ray.

A member says twice a second how full it is, and is told how full the others are. While the register
is away, members go on by themselves: they serve whom they have room for, and send nobody on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from vlacut.api.cluster.settings import RaySettings
from vlacut.api.serving import serve
from vlacut.errors import InputError, told
from vlacut.hardware import parse_bytes
from vlacut.runtime.cloud.directory import Directory, Standing
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.wire.sockets import listener, written

if TYPE_CHECKING:
    from vlacut.api.answering import HttpServer

T = TypeVar("T")
_PERIOD_S = 0.5
_STALE_S = 2.0
_MOST_PORTS = 64

Report = Callable[[Standing], Sequence[Standing]]
_log = logging.getLogger("vlacut.server")


class Register:
    """How full the members are; one that says nothing for 2 s has gone."""

    def __init__(self) -> None:
        self._directory = Directory(_STALE_S)

    def report(self, standing: Standing) -> list[Standing]:
        """Take what a member says; what all of them said last."""
        self._directory.report(standing)
        return self._directory.all

    def all(self) -> list[Standing]:
        """What the members said last, by address."""
        return self._directory.all


class Member:
    """A server in threads of its own, from now until `drain`.

    Args:
        settings: of the cluster.
        host: where robots reach this machine.
        report: tells the register of this server, and returns what it knows of all. What it raises
            is logged, and tried again.

    Raises what serving does, InputError also if no port is free.
    """

    def __init__(self, settings: RaySettings, host: str, report: Report) -> None:
        self._report = report
        self._directory = Directory(_STALE_S)
        self._ended = threading.Event()
        self._away = False
        self._server = _listening(settings, host, self._directory)
        self._address = written(host, self._server.address[1])
        try:
            self._page = _page(self._server, settings, host)
        except InputError:
            self._server.close()
            raise
        self._metrics = written(*self._page.address) if self._page else ""
        self._serving = threading.Thread(target=self._server.serve_forever, name="vlacut-serve")
        self._telling = threading.Thread(target=self._tell, name="vlacut-tell", daemon=True)
        self._serving.start()
        self._telling.start()

    @property
    def standing(self) -> Standing:
        """How full it is, by the address where robots reach it."""
        return replace(self._server.standing, address=self._address, metrics=self._metrics)

    def drain(self) -> int:
        """Send the robots on, and end; how many are left, whose steps took too long."""
        self._server.shutdown()
        self._serving.join()
        self._ended.set()
        self._telling.join()
        if self._page:
            self._page.close()
        return self._server.robots

    def _tell(self) -> None:
        while not self._ended.wait(_PERIOD_S):
            self.tell()

    def tell(self) -> None:
        """Say how full it is, and hear of the others."""
        mine = self.standing
        try:
            found = self._report(mine)
        except Exception as error:  # whatever stands between: robots are served without it
            if not self._away:
                _log.warning("the register is away: %s", told(error))
            self._away = True
            return
        self._away = False
        self._directory.replace(one for one in found if one.address != mine.address)


def _listening(settings: RaySettings, host: str, directory: Directory) -> Server:
    """A server on the first free port."""
    return _first_free(host, settings.port, lambda port: _serving(settings, host, port, directory))


def _page(server: Server, settings: RaySettings, host: str) -> HttpServer | None:
    """Its page of metrics on the first free port, if it is to have one."""
    if not settings.metrics:
        return None
    try:
        from vlacut.api.metrics import serve_metrics
    except ModuleNotFoundError as error:
        raise InputError(f"metrics need {error.name}: pip install 'vlacut[metrics]'") from error
    return _first_free(host, settings.metrics, lambda port: serve_metrics(server, host, port))


def _first_free(host: str, first: int, listen: Callable[[int], T]) -> T:
    """What listens on the first free port; on a later one if another took that meanwhile."""
    last = min(first + _MOST_PORTS, 65536)
    for port in range(first, last):
        if _taken(host, port):
            continue
        try:
            return listen(port)
        except InputError:
            if not _taken(host, port):
                raise
    raise InputError(
        f"none of {last - first} ports of {host} from {first} on is free: {_taken(host, last - 1)}"
    )


def _serving(settings: RaySettings, host: str, port: int, directory: Directory) -> Server:
    return serve(
        settings.bundles[0] if len(settings.bundles) == 1 else settings.bundles,
        host,
        port,
        tls=settings.tls or None,
        insecure=settings.insecure,
        most_robots=settings.robots,
        memory=parse_bytes(settings.memory) if settings.memory else None,
        emulate=settings.emulate,
        provider=settings.provider,
        directory=directory,
    )


def _taken(host: str, port: int) -> str:
    """Why a port cannot be had now; empty if it can."""
    try:
        listener(host, port).close()
    except InputError as error:
        return str(error)
    return ""
