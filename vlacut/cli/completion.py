"""`completion`: shells complete commands, options, and the names that options take.

The scripts are click's; bash's says besides what the line is, since bash takes `openvla:tiny` and
`--edge=a100` apart into words that no option knows. Every module with options imports this one, so
what a shell is offered is imported when it asks.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from vlacut import registry
from vlacut.errors import VlacutError

SHELLS = ("bash", "zsh", "fish")
_ASKS = "_VLACUT_COMPLETE"  # what click takes for the variable of the command `vlacut`
_BREAKS = "=:@"  # of bash, beside spaces, where one stands in names of ours

Items = list[CompletionItem[str]]


@add_completion_class
class _WholeWords(BashComplete):
    """Bash, told the line and the place in it instead of its own words."""

    name = "bash"
    source_template = BashComplete.source_template.replace(
        'env COMP_WORDS="${COMP_WORDS[*]}"',
        'env COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" COMP_WORDS="${COMP_WORDS[*]}"',
    )

    def get_completion_args(self) -> tuple[list[str], str]:
        """Words before the one that is being written, and that one."""
        line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
        words = split_arg_string(line)
        if line[-1:].isspace() and not _quoted(line):
            words.append("")
        return words[1:-1], words[-1]

    def format_completion(self, item: CompletionItem[str]) -> str:
        """What takes the place of bash's own last word."""
        line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
        written = self.get_completion_args()[1]
        kept = 0 if _quoted(line) else max(written.rfind(sign) for sign in _BREAKS) + 1
        value = item.value[kept:] if item.value.startswith(written[:kept]) else item.value
        return f"{item.type},{value}"


def _quoted(line: str) -> bool:
    """Whether a line ends within quotes."""
    return line.count('"') % 2 == 1 or line.count("'") % 2 == 1


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> None:
    """Print the script that completes commands in a shell.

    For bash write it to ~/.local/share/bash-completion/completions/vlacut, for zsh to a folder of
    $fpath as _vlacut, for fish to ~/.config/fish/completions/vlacut.fish.
    """
    root = click.get_current_context().find_root()
    made = get_completion_class(shell)
    assert made is not None  # click has all of SHELLS
    click.echo(made(root.command, {}, "vlacut", _ASKS).source(), nl=False)


def devices(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """NAME[@MODE][+STACK], or a file."""
    from vlacut.hardware import device_names, load_profile

    head, plus, _ = incomplete.rpartition("+")
    name, at, _ = (head if plus else incomplete).partition("@")
    if not plus and not at:
        return _or_a_file(device_names(), incomplete)
    try:
        profile = load_profile(name)
    except VlacutError:
        return []
    if plus:
        return _those((f"{head}+{stack}" for stack in profile.stack_names()), incomplete)
    return _those((f"{name}@{mode}" for mode in profile.mode_names()), incomplete)


def models(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """A model of the zoo, or a file; its presets once there is a colon, for they import it."""
    name, colon, _ = incomplete.partition(":")
    if not colon:
        return _or_a_file(registry.names("models"), incomplete)
    if name not in registry.names("models"):
        return []
    presets = registry.load("models", name).presets
    return _those((f"{name}:{preset}" for preset in presets), incomplete)


def selectors(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Selectors, and the variants of the bundle that is named."""
    from vlacut.bundle.reading import read_bundle
    from vlacut.runtime.network.selectors import SELECTORS

    path = ctx.params.get("path") or next(iter(ctx.args), "")  # the latter at an option's end
    try:
        variants = read_bundle(Path(path)).plan.variants if path else ()
    except VlacutError:
        variants = ()
    return _those((*SELECTORS, *(variant.name for variant in variants)), incomplete)


def predictors(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Predictors of the bandwidth."""
    from vlacut.runtime.network.predictors import NAMES

    return _those(NAMES, incomplete)


def builders(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Back ends that build parts, of both sides or of one."""
    before, equals, _ = incomplete.rpartition("=")
    return _those((before + equals + name for name in registry.names("builders")), incomplete)


def pipelines(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Passes; within braces their options, and the values of those that have few."""
    before, brace, inside = incomplete.rpartition("{")
    if not brace or "}" in inside:
        last = incomplete.rpartition(",")[0]
        return _those((_joined(last, ",", name) for name in registry.names("passes")), incomplete)
    name = before.rpartition(",")[2].strip()
    if name not in registry.names("passes"):
        return []
    kind = registry.load("passes", name)
    head, space, word = inside.rpartition(" ")
    key, equals, _ = word.partition("=")
    options = (f"{field.name.replace('_', '-')}=" for field in dataclasses.fields(kind))
    values = (f"{key}={value}" for value in getattr(kind, "choices", {}).get(key, ()))
    start = f"{before}{{{head}{space}"
    return _those((start + one for one in (values if equals else options)), incomplete)


def _joined(before: str, sign: str, name: str) -> str:
    return f"{before}{sign}{name}" if before else name


def _those(known: Iterable[str], incomplete: str) -> Items:
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]


def _or_a_file(known: Iterable[str], incomplete: str) -> Items:
    """The file comes first: in bash it takes the place of what was offered before it."""
    return [CompletionItem(incomplete, type="file"), *_those(known, incomplete)]
