"""A store: the weights that bundles of one process share, each content once.

Weights are mapped (`vlacut.bundle.holding`), and files of one inode share their pages. So the first
bundle that needs a weight puts it here, verified, and the next ones get links to it. It lies in a
folder that nobody else may enter, as long as a bundle uses it.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

from vlacut.bundle.private import PrivateFolder

_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)


class WeightStore:
    """Weights by content, and who uses them. All methods may be called from any thread.

    Args:
        make_folder: makes the folder, where and when it is first needed.
    """

    def __init__(self, make_folder: Callable[[], PrivateFolder]) -> None:
        self._make_folder = make_folder
        self._folder: PrivateFolder | None = None
        self._users: dict[str, set[bytes]] = {}
        self._making: set[str] = set()  # by a thread, without the lock: it may take long
        self._changed = threading.Condition()

    def take(self, user: bytes, content: str, target: Path, hold: Callable[[], None]) -> None:
        """Put a weight at a path: a link to the one that is here, or what `hold` puts there.

        Args:
            user: digest of the bundle, for `drop`.
            content: digest of the weight.
            target: where it is wanted; nothing is there yet.
            hold: puts the verified weight there.

        Raises what `hold` does.
        """
        with self._changed:
            self._changed.wait_for(lambda: content not in self._making)
            if self._folder is None:
                self._folder = self._make_folder()
            here = self._folder.path / content
            first = content not in self._users
            if not first and _linked(here, target):
                self._users[content].add(user)
                return
            if first:
                self._making.add(content)
        held = False
        try:
            hold()
            held = True
        finally:
            if first:
                with self._changed:
                    self._making.discard(content)
                    self._changed.notify_all()
                    if held and _linked(target, here):
                        self._users[content] = {user}

    def drop(self, user: bytes) -> None:
        """A bundle uses its weights no more: those that nobody else uses go."""
        with self._changed:
            for content, users in list(self._users.items()):
                users.discard(user)
                if not users and self._folder is not None:
                    (self._folder.path / content).unlink(missing_ok=True)
                    del self._users[content]
            if not self._users and not self._making and self._folder is not None:
                self._folder.remove()
                self._folder = None


def _linked(source: Path, target: Path) -> bool:
    """Whether the target is a link to the source now; False where files cannot be linked."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in _NO_LINK:
            return False
        raise
    return True
