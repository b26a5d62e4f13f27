"""`keys`: certificates for the machines of a deployment."""

from __future__ import annotations

from pathlib import Path

import click

from vlacut.cli.output import console, json_option, print_json
from vlacut.errors import InputError


@click.command("keys")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--robot", "robots", multiple=True, help="Name of a robot; again for more.")
@click.option("--days", default=825, show_default=True, type=click.IntRange(1), help="Valid for.")
@json_option
def keys_command(folder: Path, robots: tuple[str, ...], days: int, as_json: bool) -> None:
    """Make keys for the cloud and robots; with the same FOLDER later, for more robots.

    Copy FOLDER/cloud to the cloud and FOLDER/NAME to a robot, for --tls. Keep FOLDER/authority.
    """
    try:
        from vlacut.keys import make_keys
    except ImportError as error:
        raise InputError(f"keys need {error.name}: pip install 'vlacut[keys]'") from error
    made = make_keys(folder, robots or ("robot",), days)
    if as_json:
        print_json({"folders": [str(path) for path in made]})
        return
    for path in made:
        console().print(f"made {path}")
