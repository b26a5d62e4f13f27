"""READMEs as tests: their blocks are run in the order in which they stand, in an empty folder.

    ```console      lines that begin with "$ " are commands, the others what they print
    ```python       is executed; all blocks of a README share their names

A comment right before a block says what is special about it; readers do not see it:

    <!-- not run: WHY -->   commands and options must exist, nothing is run
    <!-- slow -->           runs with -m slow alone
    <!-- measured -->       numbers of what is printed are not compared
    <!-- fails -->          its commands end with an error
    <!-- prints -->         a block of text: what the block of Python before it prints
    <!-- file: NAME -->     is written to NAME, for the blocks after it; the entry points of a
                            pyproject.toml are found from then on

A line of three dots stands for any lines, and so does nothing under a command. Times of passes and
digests are never compared, nor how wide a column is. A command that ends in " &" goes on until the
README ends; ports 7000 and 8000 are free ones.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tomllib

from vlacut import registry

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"((?:^<!-- [^\n]* -->\n)*)^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOTE = re.compile(r"<!-- ([\w ]+?)(?:: (.*?))? -->")
_TOOK = re.compile(r"took [\d.]+ s:(?:\s+[\w-]+\s+[\d.]+\s+s,?)+")
_DIGEST = re.compile(r"\b[0-9a-f]{12}(?:[0-9a-f]{52})?\b")
_NUMBER = re.compile(r"\d[\d.]*(?:e[+-]?\d+)?")
_ANY = "..."
_PORTS = (":7000", ":8000")

Run = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class Block:
    """A fenced block of a README.

    Attributes:
        kind: what stands behind the fence.
        text: what stands in it.
        notes: what the comments before it say, by their first word.
        start: where the text begins in the README.
    """

    kind: str
    text: str
    notes: dict[str, str]
    start: int

    @property
    def runs(self) -> bool:
        """Whether it is run, now or with -m slow."""
        return self.kind in ("console", "python") and not {"not run", "file"} & self.notes.keys()

    def commands(self) -> list[Command]:
        """Of a console."""
        found: list[Command] = []
        lines = iter(self.text.splitlines(keepends=True))
        for line in lines:
            if line.startswith("$ "):
                raw = line
                while raw.endswith("\\\n"):
                    raw += next(lines)
                found.append(Command(raw, ""))
            else:
                assert found, f"a block of console begins with a command, not with {line!r}"
                found[-1] = replace(found[-1], shown=found[-1].shown + line)
        return found


@dataclass(frozen=True)
class Command:
    """A command of a console.

    Attributes:
        raw: its lines as they stand.
        shown: what it prints, as the README has it.
    """

    raw: str
    shown: str

    @property
    def line(self) -> str:
        """On one line, without the prompt."""
        return re.sub(r"\\\n\s*", "", self.raw[2:]).strip()


def blocks(readme: str) -> list[Block]:
    """The blocks of a README in their order."""
    return [
        Block(
            match[2],
            match[3],
            {note[1]: note[2] or "" for note in _NOTE.finditer(match[1])},
            match.start(3),
        )
        for match in _BLOCK.finditer(readme)
    ]


def alike(shown: str, printed: str, measured: bool = False) -> bool:
    """Whether what is shown is what was printed."""
    parts = [_comparable(part, measured) for part in f"\n{shown}".split(f"\n{_ANY}\n")]
    text = _comparable(printed, measured)
    if len(parts) == 1:
        return parts[0] == text
    if not text.startswith(parts[0]) or not text.endswith(parts[-1]):
        return False
    at = len(parts[0])
    for part in parts[1:-1]:
        place = text.find(part, at)
        if place < 0:
            return False
        at = place + len(part)
    return at <= len(text) - len(parts[-1])


def _comparable(text: str, measured: bool) -> str:
    text = _DIGEST.sub("#", _TOOK.sub("took #", text))
    text = re.sub(r" +", " ", _NUMBER.sub("#", text) if measured else text)
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


@dataclass(frozen=True)
class Outcome:
    """What a README shows of a block, or of a command in it, and what that printed.

    Attributes:
        block: which.
        raw: what stands before what is shown.
        shown, printed: the two.
    """

    block: Block
    raw: str
    shown: str
    printed: str

    @property
    def right(self) -> bool:
        """Whether they are alike; where nothing is shown, nothing is claimed."""
        return not self.shown or alike(self.shown, self.printed, "measured" in self.block.notes)

    @property
    def blessed(self) -> str:
        """What the README is to have."""
        if self.right:
            return self.raw + self.shown
        lines = [line.rstrip() for line in self.printed.splitlines()]
        if f"\n{_ANY}\n" in f"\n{self.shown}":
            lines = _nearest(self.shown.splitlines(), lines)
        made = "".join(f"{line}\n" for line in lines)
        assert alike(made, self.printed), f"write it anew, by hand:\n{self.difference()}"
        return self.raw + made

    def difference(self) -> str:
        """For people: what differs."""
        return self.raw + "".join(
            difflib.unified_diff(
                self.shown.splitlines(keepends=True),
                self.printed.splitlines(keepends=True),
                "the README shows",
                "printed",
            )
        )


def _nearest(shown: Sequence[str], printed: Sequence[str]) -> list[str]:
    """What is shown, each run of lines between dots as those like it that were printed next."""
    made: list[str] = []
    at, runs = 0, "\n".join(shown).split(_ANY)
    for number, run in enumerate(runs):
        lines = run.strip("\n").split("\n") if run.strip("\n") else []
        last = len(printed) - len(lines)
        if lines:
            starts = range(at, last + 1)
            if number == 0 or number == len(runs) - 1:  # no dots before it, or behind it
                starts = range(1) if number == 0 else range(last, last + 1)
            best = max(starts, key=lambda start: _likeness(lines, printed[start:]))
            made += printed[best : best + len(lines)]
            at = best + len(lines)
        if number < len(runs) - 1:
            made.append(_ANY)
    return made


def _likeness(lines: Sequence[str], printed: Sequence[str]) -> float:
    pairs = zip(lines, printed, strict=False)
    return sum(difflib.SequenceMatcher(None, *pair).quick_ratio() for pair in pairs)


@dataclass
class Reader:
    """Follows a README: runs its blocks in the folder where it is."""

    vlacut: Run
    servers: list[subprocess.Popen[str]] = field(default_factory=list)
    ports: dict[str, str] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "readme"})

    def __post_init__(self) -> None:
        for port in _PORTS:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.ports[port] = f":{free.getsockname()[1]}"

    def _here(self, text: str) -> str:
        """With the ports that are free here."""
        for port, free in self.ports.items():
            text = text.replace(port, free)
        return text

    def _there(self, text: str) -> str:
        """With the ports that the README has."""
        for port, free in self.ports.items():
            text = text.replace(free, port)
        return text

    def python(self, text: str) -> str:
        """Execute a block; what it prints."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(self._here(text), "README", "exec"), self.names)
        return printed.getvalue()

    def follow(self, readme: str, *, later: bool) -> Iterator[Outcome]:
        """Run its blocks, those that take long if `later`."""
        printed = ""
        for block in blocks(readme):
            if file := block.notes.get("file"):
                Path(file).parent.mkdir(parents=True, exist_ok=True)
                Path(file).write_text(block.text)
                if file == "pyproject.toml":
                    _install(tomllib.loads(block.text))
            elif "prints" in block.notes:
                yield Outcome(block, "", block.text, printed)
            elif not block.runs or ("slow" in block.notes and not later):
                continue
            elif block.kind == "python":
                printed = self.python(block.text)
            else:
                for command in block.commands():
                    printed = self.command(command.line, fails="fails" in block.notes)
                    yield Outcome(block, command.raw, command.shown, printed)

    def command(self, line: str, *, fails: bool = False) -> str:
        """Run a command; what it prints, on either stream."""
        words = shlex.split(self._here(line), comments=True)
        if words[-1] == "&":
            return self._start(words[:-1])
        if words[0] == "vlacut":
            status, out, err = self.vlacut(*words[1:])
        else:
            assert words[0] in ("python", "cat"), (
                f"a test runs no {words[0]}; say <!-- not run: -->"
            )
            words[0] = sys.executable if words[0] == "python" else words[0]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            status, out, err = done.returncode, done.stdout, done.stderr
        assert (status != 0) is fails, f"{line} ended with {status}: {err or out}"
        return self._there(out + err)

    def _start(self, words: Sequence[str]) -> str:
        """Start a command; its first line."""
        if words[:2] == ["vlacut", "serve"]:
            words = [*words, "--port", self.ports[":7000"][1:]]
        if words[0] == "vlacut":
            words = [sys.executable, "-m", *words]
        env = os.environ | {"PYTHONUNBUFFERED": "1"}
        self.servers.append(
            subprocess.Popen(
                words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env
            )
        )
        stream = self.servers[-1].stdout
        assert stream is not None
        return self._there(stream.readline())

    def close(self) -> None:
        """End what goes on."""
        for server in self.servers:
            server.terminate()
        for server in self.servers:
            server.communicate(timeout=20)


def _install(project: dict[str, Any]) -> None:
    """Let entry points be found here, as if pip had installed them."""
    about = project["project"]
    folder = Path(f"{about['name'].replace('-', '_')}-{about['version']}.dist-info")
    folder.mkdir()
    head = f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n"
    (folder / "METADATA").write_text(head)
    lines = []
    for group, entries in about.get("entry-points", {}).items():
        lines += [f"[{group}]", *(f"{name} = {place}" for name, place in entries.items())]
    (folder / "entry_points.txt").write_text("\n".join(lines))
    importlib.invalidate_caches()
    registry._entries.cache_clear()  # a process of its own would not have looked before


@contextlib.contextmanager
def reading(vlacut: Run) -> Iterator[Reader]:
    """While entered, a README is followed."""
    reader = Reader(vlacut)
    try:
        yield reader
    finally:
        reader.close()
        registry._entries.cache_clear()  # what was installed here is gone
