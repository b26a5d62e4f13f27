"""What the suite's environment installs: every package that vlacut asks for has its version pinned.

`tools/setup.sh` installs vlacut itself without dependencies, so one that is not listed is missing
in a fresh environment, and there alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import tomllib
from support.readme import ROOT

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def _plain(name: str) -> str:
    """A distribution's name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _needed(extra: str, extras: dict[str, list[str]]) -> Iterator[str]:
    """The distributions of an extra, and of those that it takes in."""
    for line in extras[extra]:
        more = re.match(r"vlacut\[(.+)\]", line)
        if more:
            for one in more[1].split(","):
                yield from _needed(one.strip(), extras)
        else:
            found = _NAME.match(line)
            assert found, line
            yield _plain(found[0])


def test_the_environment_has_all_that_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = set(_needed("dev", project["optional-dependencies"]))
    asked |= {_plain(_NAME.match(line)[0]) for line in project["dependencies"]}  # type: ignore[index]
    pinned = {
        _plain(line.partition("==")[0])
        for line in (ROOT / "tools" / "requirements.txt").read_text().splitlines()
        if "==" in line
    }
    assert "highspy" in asked
    assert asked <= pinned
