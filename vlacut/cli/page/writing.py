"""Writes the page: templates with every text escaped, and a policy that lets nothing else in.

A page with a run has two scripts, which the policy names by their digests: uPlot (MIT, its licence
beside it), pinned as it is in its package, and `run.js`. Any other page has none.
"""

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
_SCRIPTS = (("uplot", "uPlot.iife.min.js"), ("templates", "run.js"))


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
    live = any(view.data["run"] for view in views)
    styles = (style(), _file("uplot", "uPlot.min.css")) if live else (style(),)
    scripts = tuple(_file(*path) for path in _SCRIPTS) if live else ()
    return environment.get_template("page.html").render(
        views=views,
        compared=compared(views),
        data=data,
        styles=styles,
        scripts=scripts,
        policy=policy(styles, scripts),
    )


def style() -> str:
    """The style sheet of pages."""
    return _file("templates", "page.css")


def policy(styles: Sequence[str], scripts: Sequence[str] = ()) -> str:
    """What a page lets in: these style sheets and scripts (CSP level 2, hash-source)."""
    said = ["default-src 'none'", f"style-src {_hashes(styles)}"]
    return "; ".join([*said, f"script-src {_hashes(scripts)}"] if scripts else said)


def _hashes(texts: Sequence[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in texts)
    return " ".join(f"'sha256-{digest.decode()}'" for digest in digests)


def _file(*path: str) -> str:
    return files("vlacut.cli.page").joinpath(*path).read_text("utf-8")
