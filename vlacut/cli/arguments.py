"""What several commands take: a bundle, and times with their units."""

from __future__ import annotations

import re
from pathlib import Path

import click

from vlacut.errors import InputError

BUNDLE = click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path))
TLS = click.option(
    "--tls", type=click.Path(path_type=Path), help="This machine's folder of vlacut keys."
)
INSECURE = click.option("--insecure", is_flag=True, help="Off loopback without --tls.")
IN_PLACE = click.option(
    "--in-place", is_flag=True, help="Run on BUNDLE's own files, if nobody else may write them."
)
PROVIDER = click.option(
    "--provider", default="", help="Runs on it instead of the bundle's: cuda, tensorrt, cpu."
)
TRUSTED = click.option(
    "--trusted", type=click.Path(path_type=Path), help="public.pem of who must have signed BUNDLE."
)


def bundles_of(path: Path) -> list[Path]:
    """The bundles that a path names: itself, or those in a folder that is none."""
    if not path.is_dir() or (path / "manifest.json").exists():
        return [path]
    found = sorted(one for one in path.iterdir() if (one / "manifest.json").is_file())
    if not found:
        raise InputError(f"{path}: is no bundle, and holds none; make one with vlacut compile")
    return found


def seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """A time, written with its unit."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s)", value)
    if match is None or not float(match.group(1)):
        raise click.BadParameter(f"{value!r} is no time; write e.g. 100ms or 2s", ctx, param)
    return float(match.group(1)) * {"ms": 1e-3, "s": 1.0}[match.group(2)]
