"""The command line. Every command has `--json`: one object on standard output, keys stable.

Exit status: 0 done, 2 the request or a file is at fault, 1 anything else (a peer that is lost, full
or failed, a back end, a verification that found a difference). An error is one line on standard
error and, with `--json`, an object on standard output.

May import: everything. Public: `main`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import NoReturn

from vlacut.errors import (
    BackendError,
    DeadlineMissed,
    ModelDiffers,
    PeerLost,
    PeerUnable,
    UnsupportedError,
    VlacutError,
    one_line,
)

_AT_FAULT, _ELSE = 2, 1
_NOTHING: Mapping[str, object] = MappingProxyType({})
_NOT_AT_FAULT = (BackendError, DeadlineMissed, ModelDiffers, PeerLost, PeerUnable)


def main() -> None:
    """Entry point of the `vlacut` command."""
    try:
        import click
        import rich  # noqa: F401  # the check is for both
    except ImportError as error:
        sys.exit(f"vlacut: the command line needs {error.name}: pip install 'vlacut[cli]'")
    from vlacut.cli.commands import Commands, vlacut
    from vlacut.cli.missing import how_to_install
    from vlacut.cli.starting import start_lightly

    if "_VLACUT_COMPLETE" in os.environ:  # a shell asks; its words are read as bash needs it
        from vlacut.cli import completion  # noqa: F401  # registers how
    if isinstance(vlacut, Commands) and any(map(vlacut.builds, sys.argv[1:2])):
        start_lightly()
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # it ends a command as Ctrl-C does
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        vlacut(prog_name="vlacut", standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        asked = f"{context.command_path} --help" if context else "vlacut --help"
        _fail("UsageError", f"{error.format_message().rstrip('.')}; see {asked}", _AT_FAULT)
    except (click.Abort, KeyboardInterrupt):
        _fail("Interrupted", "interrupted; nothing was half-written", _ELSE)
    except VlacutError as error:
        notes = getattr(error, "__notes__", ())
        asked_for = isinstance(error, UnsupportedError)
        failed = isinstance(error, _NOT_AT_FAULT) and not asked_for
        status = _ELSE if failed else _AT_FAULT
        _fail(type(error).__name__, " ".join([str(error), *notes]), status, error.details)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("vlacut"):
            raise
        command = " ".join(["vlacut", *sys.argv[1:2]])
        install = how_to_install(error.name)
        _fail("InputError", f"{command} needs {error.name}: {install}", _AT_FAULT)
    except BrokenPipeError:  # whoever read our output has gone; there is nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_ELSE)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail("OSError", f"{where}{error.strerror or error}", _AT_FAULT)


def _fail(kind: str, text: str, status: int, details: Mapping[str, object] = _NOTHING) -> NoReturn:
    """Say what is wrong on one line, for machines as an object too, and end."""
    text = one_line(text)
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps({"error": {"kind": kind, "message": text, **details}}) + "\n")
        sys.stdout.flush()
    sys.stderr.write(f"vlacut: {text}\n")
    sys.exit(status)
