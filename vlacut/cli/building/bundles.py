"""`inspect` and `verify`: what needs the bundle alone."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import open_bundle
from vlacut.cli.arguments import BUNDLE
from vlacut.cli.show.contents import inspect_json, recipes
from vlacut.cli.show.output import console, json_option, print_json, say_next, size, table
from vlacut.cli.show.progress import progress_bar
from vlacut.cli.show.report import show_plan
from vlacut.runtime.fresh import FRESH, Fresh
from vlacut.runtime.verification import CPU, CUT, MODULE, UNCUT, CutResult, verify_bundle

_AGAINST = {
    MODULE: "{} and the uncut program, when compiled",
    UNCUT: "its record and it here",
    CUT: "{} and the uncut program, here",
}


@click.command("inspect")
@BUNDLE
@json_option
def inspect_command(path: Path, as_json: bool) -> None:
    """Show what a bundle holds.

    That is its plan, its files, and what it was made with.
    """
    bundle = open_bundle(path, half=True)
    if as_json:
        print_json(inspect_json(bundle))
        return
    out = console()
    show_plan(out, bundle.plan)
    for line in bundle.plan.left_out:  # `plan` and `compile` have warned of it
        out.print(line, style="dim", markup=False, soft_wrap=True)
    rows = [(name, *figures) for name, *figures in _folders(bundle)]
    out.print(table("\nFiles", ("folder", "files", "bytes"), rows))
    manifest = bundle.manifest
    tools = ", ".join(f"{name} {version}" for name, version in manifest.tools.items())
    if bundle.half:
        out.print(f"\nthis is the {bundle.half.value}'s half")
    out.print(f"\ndigest    {bundle.digest.hex()}\npipeline  {manifest.pipeline}")
    out.print(f"backend   {manifest.backend}\ntools     {tools}")
    for side, recipe in recipes(manifest).items():
        said = "; ".join(f"{name}: {value}" for name, value in recipe.items())
        out.print(f"{side:9} {said}")
    say_next(f"vlacut verify {path}", f"vlacut report {path} -o report.html")


def _folders(bundle: Bundle) -> list[tuple[str, str, str]]:
    total: dict[str, list[int]] = {}
    for name, entry in bundle.files.items():
        total.setdefault(name.partition("/")[0], []).append(entry.nbytes)
    return [(name, str(len(sizes)), size(sum(sizes))) for name, sizes in sorted(total.items())]


@click.command("verify")
@BUNDLE
@click.option(
    "--fresh",
    default=FRESH,
    show_default=True,
    type=click.IntRange(0),
    help="Variations of the golden observation that codecs are tried on beside.",
)
@click.option(
    "--observations",
    type=click.Path(path_type=Path),
    help="Recorded ones (.npz, or a folder of some) in the place of variations.",
)
@click.option(
    "--provider", default=CPU, show_default=True, help="What back ends that have several run on."
)
@json_option
def verify_command(
    path: Path, fresh: int, observations: Path | None, provider: str, as_json: bool
) -> None:
    """Compare every cut with the whole, and that with its model.

    The comparison with the model is from when the bundle was compiled; the others run here. Cuts
    with codecs are tried on fresh observations, too. Exit status 1 if one differs by more than the
    bundle allows.
    """
    with progress_bar() as progress:
        results = verify_bundle(
            open_bundle(path), progress, fresh=fresh, observations=observations, provider=provider
        )
    passed = all(result.passed for result in results)
    for warning in filter(None, (result.warning for result in results)):
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        cuts = [_result_json(result) for result in results]
        print_json({"bundle": str(path), "passed": passed, "cuts": cuts})
    else:
        columns = ("compared", "what", "verdict", "max |error|", "allowed")
        console().print(table("Three comparisons", columns, [_row(r) for r in results], 3))
        for result in results:
            if result.fresh is not None:
                console().print(_fresh_text(result.name, result.fresh), markup=False)
        if not passed:
            say_next(f"vlacut inspect {path}", f"vlacut doctor {path}")
        else:
            say_next(f"vlacut serve {path}", f"vlacut run {path}")
    if not passed:
        sys.exit(1)


def _result_json(result: CutResult) -> dict[str, object]:
    fresh = None if result.fresh is None else vars(result.fresh)
    return {**vars(result), "fresh": fresh, "passed": result.passed}


def _fresh_text(name: str, fresh: Fresh) -> str:
    verdict = "" if fresh.passed else f"; chance alone does that in {fresh.chance:.2g} of bundles"
    return (
        f"{name}, on {fresh.observations} fresh observations: error at most "
        f"{fresh.max_error:.3g}; {fresh.beyond} beyond {fresh.allowed:.3g}{verdict}"
    )


def _row(result: CutResult) -> tuple[str, ...]:
    if result.why_not:
        return result.comparison, result.name, f"not compared: {result.why_not}", "", ""
    verdict = "same" if result.max_abs_error == 0 else "within" if result.passed else "DIFFERS"
    figures = f"{result.max_abs_error:g}", f"{result.allowed:g}"
    return result.comparison, _AGAINST[result.comparison].format(result.name), verdict, *figures
