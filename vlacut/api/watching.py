"""Watching: a folder of bundles that a server follows.

A bundle that appears is verified, and then takes robots; one that goes takes no more, and is given
up once its last robot has left. Both are one rename on the file system, and who may write there is
who may change what the server does: it has no other door.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from vlacut.bundle.reading import open_bundle
from vlacut.errors import VerificationError, told
from vlacut.runtime.cloud.deployment import Offer
from vlacut.runtime.cloud.server import Server
from vlacut.runtime.verification import verify_bundle

_DIGEST = "manifest.json.sha256"
_MOST_BYTES = 128
_NOT_SERVED = {"event": "not served"}
_log = logging.getLogger("vlacut.server")


class Watch:
    """Follows a folder until its server is shut down.

    Args:
        folder: its bundles are served.
        server: that serves them.
        served: what it was given of the folder, by path: digests in hexadecimal.
        offer: verifies a bundle, and makes it an offer.
        period_s: seconds between scans.
    """

    def __init__(
        self,
        folder: Path,
        server: Server,
        served: Mapping[Path, str],
        offer: Callable[[Path], Offer],
        period_s: float = 2.0,
    ) -> None:
        self._folder, self._server, self._offer = folder, server, offer
        self._period_s = period_s
        self._seen, self._served = dict(served), dict(served)

    def start(self) -> None:
        """Scan it every period, in a thread of its own."""
        threading.Thread(target=self._follow, name="vlacut-watch", daemon=True).start()

    def _follow(self) -> None:
        while not self._server.draining:
            time.sleep(self._period_s)
            try:
                self.scan()
            except OSError as error:  # the folder may be on a disk that comes and goes
                _log.warning("%s: cannot be read: %s", self._folder, error.strerror)

    def scan(self) -> None:
        """Take in what has come, retire what has gone."""
        found = bundles_in(self._folder)
        new = [path for path, digest in found.items() if self._seen.get(path) != digest]
        unread = [path for path in new if not self._take(path)]
        for path in [path for path in self._served if path not in found]:
            self._retire(self._served.pop(path))
        self._seen = {path: digest for path, digest in found.items() if path not in unread}
        self._server.sweep()

    def _take(self, path: Path) -> bool:
        """Serve a bundle that is new, in the place of the one that was at its path.

        Whether it could be read; if not, the next scan tries it again.
        """
        try:
            made = self._offer(path)
            self._server.add(made)
        except Exception as error:  # of this bundle alone: the others come and go
            _log.warning("not served: %s: %s", path.name, told(error), extra=_NOT_SERVED)
            return not isinstance(error, OSError)
        digest, before = made.digest.hex(), self._served.get(path)
        _log.info("served now: %s (%s)", path.name, digest[:12], extra={"event": "served"})
        self._served[path] = digest
        if before is not None:
            self._retire(before)
        return True

    def _retire(self, digest: str) -> None:
        if digest not in self._served.values():
            self._server.retire(bytes.fromhex(digest))
            _log.info("retired: %s", digest[:12], extra={"event": "retired"})


def verify_whole(path: Path) -> None:
    """Compare every cut of a bundle with its golden record, as `vlacut verify` does.

    A half, or a bundle without that record, is opened alone: every file of it is checked. Raises
    VerificationError if a cut differs by more than the bundle allows, and BundleError.
    """
    bundle = open_bundle(path, half=True)
    if bundle.half is not None or not bundle.has_golden:
        _log.info("%s has no golden record of both sides: its files alone are checked", path.name)
        return
    for one in verify_bundle(bundle):
        if not one.passed:
            raise VerificationError(
                f"{one.comparison} {one.name} is off by {one.max_abs_error:g}, and {one.allowed:g} "
                f"is allowed; see vlacut verify {path}"
            )


def bundles_in(folder: Path) -> dict[Path, str]:
    """The bundles of a folder, and the digest that each says it has."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue  # one that is being written
        try:
            with (path / _DIGEST).open("rb") as file:
                found[path] = file.read(_MOST_BYTES).decode("ascii").strip()
        except (OSError, ValueError):
            continue  # no bundle, or not whole yet
    return found
