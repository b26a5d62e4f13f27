"""What an error about an unknown name says to try."""

from __future__ import annotations

from vlacut.errors import suggestion


def test_the_nearest_name_is_suggested() -> None:
    assert suggestion("imge", ["state", "image"]) == "did you mean image?"


def test_all_are_named_where_none_is_near() -> None:
    assert suggestion("xyz", ["state", "image"]) == "known: image, state"
    assert suggestion("xyz", []) == "known: none"
