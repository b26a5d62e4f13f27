"""READMEs do what they say: see `support.readme`. `pytest --bless` rewrites what they show."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import tomllib
from support.commands import Vlacut
from support.readme import ROOT, Outcome, blocks, reading

from vlacut.cli.commands import vlacut as commands

FOLDERS = (".", "vlacut", "vlacut/*", "models", "passes", "backends", "tools", "tests", ".github")
NAMES = sorted(
    str(path.relative_to(ROOT)) for folder in FOLDERS for path in ROOT.glob(f"{folder}/*.md")
)
_LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
_PATH = re.compile(
    r"(?<![\w/.-])((?:vlacut|passes|backends|models|tools|tests|\.github)/[\w./-]*\w)"
)
_EXTRA = re.compile(r"vlacut\[([\w,]+)\]")
_INDENTED = re.compile(r"^    (?:\$|vlacut|python|pip|sh|pytest) ", re.MULTILINE)


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def test_there_is_something_to_follow() -> None:
    """A pattern that finds nothing would pass every test below."""
    assert {"README.md", "models/README.md", "vlacut/runtime/README.md"} <= set(NAMES)
    assert sum(block.runs for name in NAMES for block in blocks(text_of(name))) > 20


def test_the_front_door_is_short() -> None:
    assert len(text_of("README.md").splitlines()) < 150
    assert len(text_of("README.md").encode()) < 9000


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("later", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_readme_shows_what_is_printed(
    name: str,
    later: bool,
    vlacut: Vlacut,
    traces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
) -> None:
    text = text_of(name)
    if later and "<!-- slow -->" not in text:
        pytest.skip("nothing in it takes long")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    # A cache of their own: what is printed hangs on what else was traced; each model once.
    monkeypatch.setenv("XDG_CACHE_HOME", str(traces))
    with reading(vlacut) as reader:
        outcomes = list(reader.follow(text, later=later))
    if pytestconfig.getoption("--bless"):
        (ROOT / name).write_text(_blessed(text, outcomes))
        return
    wrong = [outcome.difference() for outcome in outcomes if not outcome.right]
    assert not wrong, "\n".join(
        [f"{name} shows what is not so; pytest --bless rewrites it", *wrong]
    )


def _blessed(text: str, outcomes: list[Outcome]) -> str:
    """The README with what was printed."""
    made: dict[int, tuple[str, str]] = {}
    for outcome in outcomes:
        block = outcome.block
        made[block.start] = block.text, made.get(block.start, ("", ""))[1] + outcome.blessed
    for start, (old, new) in sorted(made.items(), reverse=True):
        text = text[:start] + new + text[start + len(old) :]
    return text


@pytest.mark.parametrize("name", NAMES)
def test_commands_that_are_not_run_exist(name: str) -> None:
    """Of vlacut the command and its options, of others the files."""
    for block in blocks(text_of(name)):
        if block.kind == "console":
            for command in block.commands():
                _check(shlex.split(command.line, comments=True))


def _check(words: list[str]) -> None:
    if words[0] == "vlacut":
        command = commands.get_command(click.Context(commands), words[1])
        assert command, f"no command {words[1]}"
        if isinstance(command, click.Group):  # `vlacut cluster up`: the options are the latter's
            name, command = words[2], command.commands.get(words[2])
            assert command, f"no command {words[1]} {name}"
        options = {
            name for param in command.params for name in (*param.opts, *param.secondary_opts)
        }
        asked = {word.partition("=")[0] for word in words[2:] if re.match(r"--?[a-z]", word)}
        assert asked <= options | {"--help"}, f"vlacut {words[1]} has no {asked - options}"
    elif words[0] in ("python", "sh", "pytest"):
        files = [word for word in words[1:] if re.match(r"(tools|tests)/", word)]
        assert all((ROOT / file).exists() for file in files), f"no {files}"


@pytest.mark.parametrize("name", NAMES)
def test_what_a_readme_names_is_there(name: str) -> None:
    text = text_of(name)
    here = (ROOT / name).parent
    assert not [link for link in _LINK.findall(text) if not (here / link).exists()]
    assert not [path for path in _PATH.findall(text) if not (ROOT / path).exists()]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {extra for found in _EXTRA.findall(text) for extra in found.split(",")}
    assert extras <= project["optional-dependencies"].keys()


@pytest.mark.parametrize("name", NAMES)
def test_commands_stand_where_they_are_tested(name: str) -> None:
    assert not _INDENTED.findall(text_of(name)), "write commands as ```console, after a $"
    kinds = {block.kind for block in blocks(text_of(name))}
    assert kinds <= {"console", "python", "text", "toml", "json"}
