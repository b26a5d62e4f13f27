"""Writes the page: templates with every text escaped, and a policy that lets nothing in."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from vlacut.bundle.staging import write_file
from vlacut.cli.page.pictures import ms
from vlacut.cli.page.views import BundleView, compared
from vlacut.cli.show.output import size
from vlacut.errors import InputError

MOST_BYTES = 400_000  # of a page of one bundle


def write_page(out: Path, views: Sequence[BundleView], data: dict[str, Any]) -> int:
    """Write the page of some bundles and return its bytes.

    Args:
        out: the file.
        views: one of each bundle.
        data: what the page holds for machines.

    Raises InputError without Jinja2, OSError where the file cannot be written.
    """
    page = _render(views, data).encode()
    write_file(out, page)
    return len(page)


def _render(views: Sequence[BundleView], data: dict[str, Any]) -> str:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise InputError("a report needs Jinja2: pip install 'vlacut[report]'") from error
    environment = Environment(
        loader=PackageLoader("vlacut.cli.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"ms": ms, "size": size}
    return environment.get_template("page.html").render(
        views=views, compared=compared(views), data=data, style=style(), policy=policy(style())
    )


def style() -> str:
    """The style sheet of pages."""
    return files("vlacut.cli.page").joinpath("templates", "page.css").read_text("utf-8")


def policy(style: str) -> str:
    """What a page lets in: its own style sheet, and no script (CSP level 2, hash-source)."""
    return f"default-src 'none'; style-src '{_hash(style)}'"


def _hash(text: str) -> str:
    """How a page's policy names a text that may be in it (CSP level 2, hash-source)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
