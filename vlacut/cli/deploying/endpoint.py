"""`run --serve`: another project's client drives the edge side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

from vlacut.api import Policy
from vlacut.bundle.staging import write_file
from vlacut.cli.show.output import console, print_json
from vlacut.cli.show.steps import show_steps
from vlacut.integrations.endpoint import Endpoint, open_endpoint, url_of
from vlacut.integrations.stepping import Stepped
from vlacut.runtime.edge.report import StepReport
from vlacut.runtime.edge.timeline import about_bundle, trace_json

F = TypeVar("F", bound=Callable[..., Any])

_SHOWN = 1000  # of the last steps, once it was ended

_OPTIONS = (
    click.option(
        "--serve",
        "wire",
        metavar="WIRE://HOST:PORT",
        help="Be the policy server of openpi's clients, or of LeRobot's: openpi:// or lerobot://.",
    ),
    click.option(
        "--map",
        "mapped",
        multiple=True,
        metavar="KEY=[INPUT[:LOW..HIGH]]",
        help="With --serve: the input that a client's KEY is, and what 0 and 255 of bytes become.",
    ),
    click.option(
        "--metadata",
        type=click.Path(path_type=Path),
        help="With --serve: a JSON object that clients are told first.",
    ),
)


def endpoint_options(command: F) -> F:
    """Adds the options of an endpoint; `wire` is None where there is none."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def serve_endpoint(
    session: Policy,
    endpoint: Endpoint,
    *,
    fixed: dict[str, np.ndarray],
    chunk: str,
    rate: float | None,
    insecure: bool,
    timeline: Path | None,
    as_json: bool,
) -> None:
    """Serve a session until the process is told to end; then show the last steps."""
    reports: deque[StepReport] = deque(maxlen=_SHOWN)

    def watch(stepped: Stepped) -> None:
        if stepped.report is not None:
            reports.append(stepped.report)

    server = open_endpoint(
        endpoint, session, chunk=chunk, fixed=fixed, rate=rate, insecure=insecure, watch=watch
    )
    if as_json:
        print_json({"address": url_of(endpoint, server), "bundle": str(session.bundle.root)})
    else:
        shape = f"actions [{server.policy.horizon}, {server.policy.width}]"
        line = (
            f"serving {session.bundle.root} on {url_of(endpoint, server)}: {shape}; Ctrl-C ends it"
        )
        console().print(line, markup=False)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass  # it is how one ends it
    finally:
        server.shutdown()
        if timeline and reports:
            about = about_bundle(session.plan, session.bundle.digest)
            write_file(timeline, trace_json(list(reports), about=about))
    if reports and not as_json:
        show_steps(session.plan, list(reports), None)
