"""What several commands take: a bundle, and times with their units."""

from __future__ import annotations

import re
from pathlib import Path

import click

BUNDLE = click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path))


def seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """A time, written with its unit."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s)", value)
    if match is None or not float(match.group(1)):
        raise click.BadParameter(f"{value!r} is no time; write e.g. 100ms or 2s", ctx, param)
    return float(match.group(1)) * {"ms": 1e-3, "s": 1.0}[match.group(2)]
