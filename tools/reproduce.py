"""Every table and figure of the four papers beside ours, as a page and as text.

    sh tools/reproduce [-o FOLDER] [--only RoboECC ActionFlow] [--traces FOLDER]

Writes `reproduction.html`, one page without a network, and `reproduction.txt`, which is printed,
too, into FOLDER as seen from the root of the repository; else into `build`, which git ignores.
Every figure of ours says of what kind it is; what needs hardware, a robot or trained weights is
listed with the paper's figures and the reason. Each table says how long it took, and the most
memory of the process until then.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, PackageLoader, PrefixLoader, StrictUndefined
from reproducing import actionflow, adjustment, dyqvla, rapid, roboecc
from reproducing.tables import Table, made
from rich.console import Console
from rich.progress import track

from vlacut.bundle.staging import write_file
from vlacut.cli.page.writing import policy, style
from vlacut.cli.show.output import table as shown

PAPERS = {module.PAPER: module.TABLES for module in (roboecc, rapid, dyqvla, actionflow)}
WIDTH = 100


def main() -> None:
    """Make the tables, write the page and the text."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--out", type=Path, default=Path("build"), help="folder")
    parser.add_argument("--only", nargs="+", choices=PAPERS, default=list(PAPERS))
    parser.add_argument(
        "--traces", type=Path, help="recorded bandwidths, for table IV and figure 7"
    )
    asked = parser.parse_args()
    makes = [
        partial(make, asked.traces) if make in adjustment.OVER_NETWORK else make
        for name in asked.only
        for make in PAPERS[name]
    ]
    tables = [made(make) for make in track(makes, "reproduce", console=Console(stderr=True))]
    asked.out.mkdir(parents=True, exist_ok=True)
    text = text_of(tables)
    write_file(asked.out / "reproduction.txt", text)
    write_file(asked.out / "reproduction.html", page_of(tables))
    sys.stdout.write(f"{text}\nwrote {asked.out}/reproduction.html and .txt\n")


def text_of(tables: Sequence[Table]) -> str:
    """All tables as text."""
    out = Console(width=WIDTH, file=io.StringIO(), highlight=False)
    for one in tables:
        out.print(f"\n{one.paper}, {one.number}: {one.title}", markup=False)
        rows = [(row.what, row.paper, row.ours, str(row.kind)) for row in one.rows]
        if rows:
            out.print(shown("", ("what", "paper", "ours", "kind"), rows, left=1))
        cost = f"{one.seconds:.1f} s, {one.megabytes:.0f} MB. Source: {one.source}."
        out.print(f"{one.note} {cost}" if one.note else cost, markup=False)
    seconds = sum(one.seconds for one in tables)
    most = max(one.megabytes for one in tables)
    out.print(f"\nAll of it took {seconds / 60:.1f} minutes and {most:.0f} MB.")
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def page_of(tables: Sequence[Table]) -> str:
    """All tables as a page."""
    places = {
        "": FileSystemLoader(Path(__file__).parent / "reproducing"),
        "page": PackageLoader("vlacut.cli.page"),
    }
    environment = Environment(
        loader=PrefixLoader(places), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    papers = {
        name: [one for one in tables if one.paper == name]
        for name in dict.fromkeys(one.paper for one in tables)
    }
    return environment.get_template("/page.html").render(
        papers=papers, style=style(), policy=policy([style()])
    )


if __name__ == "__main__":
    main()
