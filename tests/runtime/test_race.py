"""Two ways to one action at once."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
from support.deployments import DIGEST, Held, deployment_with_alone, served
from support.programs import observation
from support.proxy import wait_until

from vlacut.errors import DeadlineMissed
from vlacut.hardware import Side
from vlacut.runtime.edge.race import Race
from vlacut.runtime.edge.session import EdgeSession
from vlacut.runtime.engines import OpenedEngines

_HANGS = """
import threading, time
from vlacut.runtime.edge.race import Race

race = Race(("cloud", "edge"))
race.start()
race.enter("cloud", threading.Event().wait)
race.enter("edge", lambda: 1)
assert race.winner(time.monotonic() + 60) == ("edge", 1)
race.close(0.1)
print("ended")
"""


def test_a_way_that_hangs_does_not_keep_the_process() -> None:
    words = [sys.executable, "-c", _HANGS]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("ended\n", 0), done.stderr


def test_the_first_that_is_valid_wins_and_who_is_busy_sits_out() -> None:
    race: Race[str, int] = Race(("cloud", "edge"))
    go = threading.Event()

    def late() -> int:
        assert go.wait(20)
        return 1

    def broken() -> int:
        raise ValueError("no bandwidth")

    race.start()
    race.enter("cloud", late)
    race.enter("edge", lambda: 2)
    assert race.winner(time.monotonic() + 60) == ("edge", 2)
    race.start()
    race.enter("cloud", broken)  # it is still at the first
    race.enter("edge", broken)
    assert race.winner(time.monotonic() + 60) is None
    assert race.why_not() == "no bandwidth"
    go.set()
    assert wait_until(lambda: race._busy["cloud"].done())
    race.start()
    race.enter("cloud", lambda: 3)
    assert race.winner(time.monotonic() + 60) == ("cloud", 3)
    assert race.close(10)
    assert wait_until(
        lambda: not any(each.name.startswith("vlacut-cloud") for each in threading.enumerate())
    )


def test_nobody_in_time() -> None:
    race: Race[str, int] = Race(("cloud",))
    go = threading.Event()
    race.start()
    race.enter("cloud", lambda: int(go.wait(20)))
    assert race.winner(time.monotonic() + 0.01) is None
    assert race.why_not() == "the deadline passed"
    assert not race.close(0.01)
    go.set()
    assert race.close(10)


def test_an_engine_that_runs_keeps_what_it_uses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A session is closed while the edge's half of a hedged step hangs: its engines are not."""
    program, plan, engines = deployment_with_alone()
    closed: list[OpenedEngines] = []
    close = OpenedEngines.close

    def noted(self: OpenedEngines) -> None:
        if any(each is self for each in policy._opened):  # not one of the server
            closed.append(self)
        close(self)

    part = next(part for part in plan.parts if part.side is Side.EDGE)
    held = Held(engines[part.name])
    mine = {**engines, part.name: held}
    with served(plan, engines) as server:
        policy = EdgeSession(plan, DIGEST, mine, server.address, deadline=0.5, hedge=True)
        with suppress(DeadlineMissed):  # on a busy machine not even the edge alone makes it
            policy.step(observation(program))
        assert held.began.wait(10)
        monkeypatch.setattr(OpenedEngines, "close", noted)
        monkeypatch.setattr("vlacut.runtime.edge.session._END_S", 0.01)
        policy.close()
        assert not closed
        assert "closed while an engine runs" in caplog.text
        held.go.set()
        assert wait_until(lambda: all(run.done() for run in policy._fallbacks._race._busy.values()))  # type: ignore[union-attr]
        policy.close()
        assert len(closed) == 2
