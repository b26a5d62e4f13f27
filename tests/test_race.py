"""Two ways to one action at once."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

from proxy import wait_until

from vlacut.runtime.race import Race

_HANGS = """
import threading, time
from vlacut.runtime.race import Race

race = Race(("cloud", "edge"))
race.start()
race.enter("cloud", threading.Event().wait)
race.enter("edge", lambda: 1)
assert race.winner(time.monotonic() + 60) == ("edge", 1)
race.close()
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
    race.close()
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
    go.set()
    race.close()
