"""EmulatedLink: a proxy in a process of its own, which other work here does not hold up.

The child reads the server's address and the shape, a line of JSON, from standard input, writes its
port, and then a line with the time for each line it reads: at every one the traces start again. It
ends with its standard input, so never outlives its parent.
"""

from __future__ import annotations

import json
import subprocess
import sys

from vlacut.bundle.serde import from_json, to_json
from vlacut.emulation.proxy import Proxy
from vlacut.emulation.shape import Shape
from vlacut.errors import HardwareError
from vlacut.runtime.closing import Closing


class EmulatedLink(Closing):
    """A link to a server until closed; connect to `address` instead of the server's.

    Args:
        server: host and port.
        shape: what the link does.
        begun: whether the traces start now; if not, bytes are delayed and no more until `begin`.

    Attributes:
        address: host and port.

    Raises HardwareError if the process ends before it listens.
    """

    def __init__(self, server: tuple[str, int], shape: Shape, *, begun: bool = True) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vlacut.emulation"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        asked = {"server": server, "shape": to_json(shape), "begun": begun}
        self.address = "127.0.0.1", int(self._say(json.dumps(asked)))

    def begin(self) -> float:
        """Start both traces now; the time, in seconds on the clock of `time.monotonic`.

        Raises HardwareError if the process has ended.
        """
        return float(self._say("begin"))

    def close(self) -> None:
        """End all connections; calling it again does nothing."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _say(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise HardwareError("the emulated link's process ended; what it said is above")
        return answer


def main() -> None:
    """The child."""
    asked = json.loads(sys.stdin.readline())
    shape = from_json(Shape, asked["shape"], "shape")
    with Proxy(tuple(asked["server"]), shape, begun=asked["begun"]) as proxy:
        _answer(proxy.address[1])
        for _ in sys.stdin:
            _answer(repr(proxy.begin()))


def _answer(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()
