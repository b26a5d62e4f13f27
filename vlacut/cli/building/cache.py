"""`cache`: the traced programs that are kept."""

from __future__ import annotations

import time
from dataclasses import asdict

import click

from vlacut.cli.show.output import console, json_option, print_json, say_next, size, table, to_plan
from vlacut.compiler.trace_cache import TraceCache
from vlacut.compiler.trace_entry import Entry


@click.command("cache")
@click.option("--clear", is_flag=True, help="Remove all of them.")
@json_option
def cache_command(clear: bool, as_json: bool) -> None:
    """List, or clear, the cache of traced models.

    plan, compile and opt trace a model once, and again when its code, its file or a package
    changed; --no-cache leaves the cache out.
    """
    cache = TraceCache()
    if clear:
        removed, left = cache.clear()
        if as_json:
            print_json({"folder": str(cache.folder), "removed": removed, "in_use": left})
        else:
            in_use = f"; {left} are in use and stay" if left else ""
            click.echo(f"removed {removed} traces of {cache.folder}{in_use}")
            say_next(to_plan())
        return
    entries = cache.entries()
    if as_json:
        print_json({"folder": str(cache.folder), "traces": [asdict(entry) for entry in entries]})
        return
    total = size(sum(entry.nbytes for entry in entries))
    click.echo(f"{cache.folder}: {len(entries)} traces, {total} of {size(cache.most_bytes)}")
    if entries:
        console().print(table("", ("model", "size", "used"), [_row(entry) for entry in entries]))
    say_next("vlacut cache --clear")


def _row(entry: Entry) -> tuple[str, str, str]:
    minutes = max(0.0, time.time() - entry.used_s) / 60
    if minutes < 120:
        return entry.model, size(entry.nbytes), f"{minutes:.0f} min ago"
    return entry.model, size(entry.nbytes), f"{minutes / 60:.0f} h ago"
