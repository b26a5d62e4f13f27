"""Threads that outlive the test that started them."""

from __future__ import annotations

import threading

_OURS = ("vlacut", "support", "test_")
_FOR_EVER = ("metrics",)  # as long as the process lives; it waits for requests, which tests make


def strays(before: set[threading.Thread]) -> list[str]:
    """The threads of this project's code or of tests that were not there before, by name.

    Libraries keep threads of their own, and they may.
    """
    new = (one for one in threading.enumerate() if one not in before)
    return [one.name for one in new if one.name not in _FOR_EVER and _is_ours(one)]


def _is_ours(thread: threading.Thread) -> bool:
    target = getattr(thread, "_target", None) or thread.run
    return str(getattr(target, "__module__", "")).startswith(_OURS)
