"""The command line. Every command has `--json`: one object on standard output, keys stable.

Exit status: 0 done, 2 the request or a file is at fault, 1 anything else (a lost peer, a back end,
a verification that found a difference).
"""

from __future__ import annotations

import json
import sys
from typing import NoReturn

from vlacut.errors import BackendError, DeadlineMissed, PeerLost, VlacutError


def main() -> None:
    """Entry point of the `vlacut` command."""
    try:
        import click
        import rich  # noqa: F401  # the check is for both
    except ImportError as error:
        sys.exit(f"vlacut: the command line needs {error.name}: pip install 'vlacut[cli]'")
    from vlacut.cli.commands import vlacut

    try:
        vlacut(prog_name="vlacut", standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        where = getattr(error, "ctx", None)
        help_is = f" (see {where.command_path} --help)" if where else ""
        said = " ".join(error.format_message().split()).removesuffix(".")
        _fail(error, f"{said}{help_is}", error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit("vlacut: interrupted; nothing was half-written")
    except VlacutError as error:
        line = " ".join([str(error), *getattr(error, "__notes__", ())])
        _fail(error, line, 1 if isinstance(error, (PeerLost, DeadlineMissed, BackendError)) else 2)


def _fail(error: Exception, line: str, status: int) -> NoReturn:
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps({"error": {"kind": type(error).__name__, "message": line}}))
        sys.stdout.write("\n")
    sys.stderr.write(f"vlacut: {line}\n")
    sys.exit(status)
