"""Threads that outlive the test that started them."""

from __future__ import annotations

import threading

_OURS = ("vlacut", "support", "test_")


def strays(before: set[threading.Thread]) -> list[str]:
    """The threads of this project's code or of tests that were not there before, by name.

    Libraries keep threads of their own, and they may.
    """
    return [one.name for one in threading.enumerate() if one not in before and _is_ours(one)]


def _is_ours(thread: threading.Thread) -> bool:
    target = getattr(thread, "_target", None) or thread.run
    return str(getattr(target, "__module__", "")).startswith(_OURS)
