"""A cluster on Ray: one actor for each server, and one for the register.

Ray places the actors, restarts those that end, and, where its autoscaler runs, gets machines for
those that find none. Steps never pass through it: a robot has a connection to its server.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from vlacut.api.cluster.member import Member, Register
from vlacut.api.cluster.scaling import Scaling
from vlacut.api.cluster.settings import RaySettings
from vlacut.errors import InputError, VlacutError, one_line
from vlacut.runtime.closing import Closing
from vlacut.runtime.cloud.directory import Standing

_ANSWER_S = 2.0
_DRAIN_S = 60.0
_LOOK_S, _LONG_S = 1.0, 30.0

_log = logging.getLogger("vlacut.cluster")


class _Server:
    """The actor of a server, made anew where Ray starts it again. What it logs, Ray keeps.

    Args:
        settings: of the cluster.
        register: its name; a handle among the arguments may be lost until they are needed again.
    """

    def __init__(self, settings: RaySettings, register: str) -> None:
        import ray

        logging.basicConfig(level=logging.INFO)
        if os.nice(0) > 0:
            _log.warning(
                "this server makes way for other processes (niceness %d): start Ray with "
                "RAY_worker_niceness=0",
                os.nice(0),
            )
        actor = ray.get_actor(register)

        def report(standing: Standing) -> list[Standing]:
            found: list[Standing] = ray.get(actor.report.remote(standing), timeout=_ANSWER_S)
            return found

        host = settings.host or ray.util.get_node_ip_address()
        self._member = Member(settings, host, report)

    def standing(self) -> Standing:
        """See `Member.standing`."""
        return self._member.standing

    def drain(self) -> int:
        """See `Member.drain`."""
        return self._member.drain()


class RayCluster(Closing):
    """The servers of a cluster, from now until `close`. One thread uses it.

    Args:
        settings: of the cluster.
        address: of Ray's head; empty for `RAY_ADDRESS`, or else a Ray of this machine alone.
        scaling: how many servers there should be; None for the settings' bounds.

    Raises InputError if Ray is not installed or does not answer.
    """

    def __init__(
        self, settings: RaySettings, address: str = "", scaling: Scaling | None = None
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise InputError("a cluster needs ray: pip install 'vlacut[ray]'") from error
        # Of a Ray that this starts; else its workers have 15, and steps wait for everybody else.
        os.environ.setdefault("RAY_worker_niceness", "0")
        try:
            ray.init(address=address or None, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise InputError(
                f"Ray does not answer: {one_line(error)}; start it with ray start --head"
            ) from error
        self._ray, self._settings = ray, settings
        most = settings.most_workers or settings.workers
        self._scaling = scaling or Scaling(settings.workers, most)
        self._for_ever = {"max_restarts": -1, "max_concurrency": 8}
        self._name = f"vlacut-{secrets.token_hex(8)}"
        register = ray.remote(Register).options(num_cpus=0, name=self._name, **self._for_ever)
        self._register = register.remote()
        self._servers = [self._start() for _ in range(settings.workers)]
        self._leaving: dict[Any, Any] = {}  # what drains, by what says that it has
        self._dead: list[Any] = []  # at the last asking
        self._silent: set[Any] = set()
        self._last: dict[Any, Standing] = {}  # of what has served: the rest has nothing to drain

    def _start(self) -> Any:
        actor = self._ray.remote(_Server).options(
            num_cpus=self._settings.cpus, num_gpus=self._settings.gpus, **self._for_ever
        )
        return actor.remote(self._settings, self._name)

    def ready(
        self, seconds: float | None = None, goes_on: Callable[[], bool] = lambda: True
    ) -> list[Standing]:
        """Wait until all servers serve; where each is, or nothing once `goes_on` says no.

        Raises VlacutError if one cannot, or not within so many seconds: Ray has no place for it.
        """
        asked = [server.standing.remote() for server in self._servers]
        began, told = time.monotonic(), False
        while goes_on():
            done, missing = self._ray.wait(asked, num_returns=len(asked), timeout=_LOOK_S)
            try:
                found: list[Standing] = self._ray.get(asked if not missing else done)
            except self._ray.exceptions.RayError as error:
                raise VlacutError(f"a server cannot start: {one_line(error)[-500:]}") from error
            if not missing:
                self._last.update(zip(self._servers, found, strict=True))
                return found
            passed = time.monotonic() - began
            if seconds is not None and passed >= seconds:
                raise VlacutError(
                    f"Ray has found no place for all {len(asked)} servers in {seconds:g} s; see "
                    f"ray status"
                )
            if passed >= _LONG_S and not told:
                told = True
                _log.warning(
                    "%d of %d servers do not serve yet: they load, or Ray has no place for them; "
                    "see ray status",
                    len(missing),
                    len(asked),
                )
        return []

    def standings(self) -> list[Standing]:
        """How full the servers say they are, in the order of starting. One that is slow to say it
        counts with what it said last; one that has ended, or has not said anything yet, does not.
        """
        self._answers()
        return [
            self._last[one] for one in self._servers if one in self._last and one not in self._dead
        ]

    def tend(self) -> None:
        """Start a server, or drain one, where the load asks for it; to be called now and then.

        One that is drained sends its robots on between two steps, and is then given up, and with it
        what it had of its machine: Ray's autoscaler removes a machine on which nothing is left.
        """
        self._give_up_drained()
        answers = self._answers()
        self._replace_dead()
        said = [one for one in answers if one is not None]
        wanted = self._scaling.wanted(said, len(self._servers), time.monotonic())
        for _ in range(wanted - len(self._servers)):
            self._servers.append(self._start())
            _log.info("a server is added: %d", len(self._servers))
        if wanted < len(self._servers):
            self._drain(_emptiest(answers))

    def _replace_dead(self) -> None:
        """Ray restarts a process that ends, but not a server that could not start: for want of its
        bundle, say.
        """
        for server in self._dead:
            self._silent.discard(server)
            self._last.pop(server, None)
            self._ray.kill(server)
            self._servers[self._servers.index(server)] = self._start()

    def drain(self, address: str) -> None:
        """Drain the server there, and give it up once it has. Raises InputError if none is there.

        `tend` may start another.
        """
        for index, one in enumerate(self._answers()):
            if one is not None and one.address == address:
                self._drain(index)
                return
        raise InputError(f"no server of this cluster is at {address}")

    def _drain(self, index: int) -> None:
        server = self._servers.pop(index)
        self._last.pop(server, None)
        self._leaving[server.drain.remote()] = server
        _log.info("a server is drained: %d stay", len(self._servers))

    def _give_up_drained(self) -> None:
        done, _ = (
            self._ray.wait(list(self._leaving), num_returns=len(self._leaving), timeout=0)
            if self._leaving
            else ([], [])
        )
        for one in done:
            self._ray.kill(self._leaving.pop(one))

    def _answers(self) -> list[Standing | None]:
        """What each server says; None of one that is being started, or hangs."""
        asked = [server.standing.remote() for server in self._servers]
        done, _ = self._ray.wait(asked, num_returns=len(asked), timeout=_ANSWER_S)
        self._dead = []
        return [
            self._said(server, answer) if answer in done else None
            for server, answer in zip(self._servers, asked, strict=True)
        ]

    def _said(self, server: Any, answer: Any) -> Standing | None:
        try:
            found: Standing = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            if server not in self._silent:
                _log.warning("a server does not answer: %s", one_line(error)[-300:])
            self._silent.add(server)
            if isinstance(error, self._ray.exceptions.ActorDiedError):
                self._dead.append(server)
            return None
        self._silent.discard(server)
        self._last[server] = found
        return found

    def close(self) -> None:
        """Drain all servers that have served, then end what this started."""
        served = [server for server in self._servers if server in self._last]
        waiting = [*self._leaving, *(server.drain.remote() for server in served)]
        try:
            if waiting:
                _, left = self._ray.wait(waiting, num_returns=len(waiting), timeout=_DRAIN_S)
                if left:
                    _log.warning("%d servers end undrained after %g s", len(left), _DRAIN_S)
        finally:
            self._ray.shutdown()


def _emptiest(answers: Sequence[Standing | None]) -> int:
    """Which server has the fewest robots; one that says nothing has none."""
    robots = [0 if one is None else one.robots + 1 for one in answers]
    return min(range(len(robots)), key=robots.__getitem__)
