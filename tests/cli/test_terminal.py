"""What people see in a terminal: width, colours, progress, the next command, and nothing else."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
import threading
from importlib import import_module
from inspect import getsource
from io import StringIO
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rich.console import Console
from rich.progress import Progress as Bar
from support.commands import Vlacut

from vlacut.cli import commands
from vlacut.cli.show import output, progress

COLOUR = re.compile(r"\x1b\[[\d;]*(3[0-7]|4[0-7]|9[0-7])m")
CONTROL = re.compile(r"\x1b\[[\d;?]*[a-zA-Z]|\x1b\][^\x07]*\x07|\r")


def in_terminal(*words: object, columns: int = 80, **more: str) -> str:
    """What a command writes to a terminal so wide."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color", **more}
    command = [sys.executable, "-m", "vlacut", *map(str, words)]
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    with subprocess.Popen(command, env=environment, **streams) as running:  # type: ignore[call-overload]
        os.close(theirs)
        written = b""
        while True:
            try:
                chunk = os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            written += chunk
    os.close(ours)
    assert running.returncode == 0, written.decode()
    return written.decode()


def test_a_terminal_of_80_columns_holds_what_is_shown(split_bundle: Path) -> None:
    plain = in_terminal("inspect", split_bundle, NO_COLOR="1")
    assert not COLOUR.search(plain)
    lines = [line for line in CONTROL.sub("", plain).splitlines() if not line.startswith("next: ")]
    assert max(map(len, lines)) <= 80
    assert f"next: vlacut verify {split_bundle}" in CONTROL.sub("", plain)


def test_a_pipe_gets_no_control_characters_and_no_advice(split_bundle: Path) -> None:
    """Nor what ONNX Runtime has to say: `verify` runs it."""
    words = [sys.executable, "-m", "vlacut", "verify", str(split_bundle)]
    ended = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "\x1b" not in ended.stdout
    assert "next: " not in ended.stdout
    assert ended.stderr == ""


def test_the_search_says_nothing_of_its_own(onnx_file: Path) -> None:
    """Under two limits HiGHS solves; its lines would be on the file descriptor."""
    limits = ("--cloud-budget", "17kB", "--cloud-time", "1us", "--no-cache")
    target = ("--edge", "jetson-agx-orin", "--cloud", "a100", "--link", "10GB/s,0us")
    words = [sys.executable, "-m", "vlacut", "plan", str(onnx_file), *target, *limits]
    ended = subprocess.run(words, capture_output=True, text=True, check=True)
    assert all(line.startswith(("note: ", "warning: ")) for line in ended.stderr.splitlines())
    assert ended.stdout.startswith("policy on jetson-agx-orin and a100")


def test_what_comes_next_is_said_to_people_alone(
    monkeypatch: pytest.MonkeyPatch, vlacut: Vlacut, split_bundle: Path
) -> None:
    assert "next: " not in vlacut("inspect", split_bundle)[1]
    file = StringIO()
    monkeypatch.setattr(output, "console", lambda: Console(file=file, force_terminal=True))
    output.say_next("vlacut plan a[b]", "vlacut run c")
    assert CONTROL.sub("", file.getvalue()) == "next: vlacut plan a[b]    and    vlacut run c\n"


@pytest.mark.parametrize("terminal", ["1", "0"])
def test_a_bar_leaves_no_thread(monkeypatch: pytest.MonkeyPatch, terminal: str) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", terminal)
    before = threading.enumerate()
    with progress.progress_bar() as bar:
        bar("part", 1, 2)
    for one in threading.enumerate():
        if one not in before:
            one.join(60)
            assert not one.is_alive()


def test_progress_tells_the_time_that_is_left() -> None:
    now = [0.0]
    with Bar(
        progress._Left(), console=Console(file=StringIO()), get_time=lambda: now[0], disable=True
    ) as bar:
        task = bar.add_task("start", total=1)
        for done in range(5):
            progress._show_stage(bar, task, f"part {done}", done, 10)
            now[0] += 2.0
        assert bar.tasks[0].time_remaining == 12
        progress._show_stage(bar, task, "another", 0, 3)
        assert bar.tasks[0].time_remaining is None
        assert str(progress._Left().render(bar.tasks[0])) == ""
        assert bar.tasks[0].description == "another"


def results(bundle: Path, folder: Path) -> dict[str, tuple[object, ...]]:
    """Words by command, for those that are done at once."""
    (folder / "a.csv").write_text("episode,success\n" + "".join(f"{n},1\n" for n in range(80)))
    (folder / "served").mkdir()
    return {
        "accept": (folder / "a.csv", folder / "a.csv"),
        "bundle": ("edge", bundle, "-o", folder / "half"),
        "cache": (),
        "cache --clear": (),
        "devices": (),
        "devices a100": ("-o", folder / "a.toml"),
        "doctor": (),
        "inspect": (bundle,),
        "keys": (folder / "keys",),
        "keys --signer": (folder / "signer",),
        "report": (bundle, "-o", folder / "r.html"),
        "rollout": (bundle, folder / "served"),
        "simulate": (bundle, "--trace", folder / "t.csv"),
    }


def test_what_comes_next_is_below_every_result(
    monkeypatch: pytest.MonkeyPatch, vlacut: Vlacut, split_bundle: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "t.csv").write_text("time_s,mbit_per_s\n0,8\n1,80\n")
    for command, words in results(split_bundle, tmp_path).items():
        status, out, err = vlacut(*command.split(), *words)
        assert status == 0, err
        lines = CONTROL.sub("", out).splitlines()
        assert [line for line in lines if line.startswith("next: ")], (command, lines)


@pytest.mark.parametrize("words", ["cache --clear", "devices", "devices a100 -o a.toml", "models"])
def test_the_plan_that_comes_next_misses_no_option(
    monkeypatch: pytest.MonkeyPatch, vlacut: Vlacut, tmp_path: Path, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    status, out, err = vlacut(*words.split())
    assert status == 0, err
    (advice,) = re.findall(r"next: (.*)", CONTROL.sub("", out))
    (line,) = [one for one in advice.split("    and    ") if one.startswith("vlacut plan ")]
    plan = commands.vlacut.get_command(click.Context(commands.vlacut), "plan")
    assert plan
    plan.make_context("plan", shlex.split(line)[2:])


def test_the_compile_that_comes_next_has_the_words_of_the_plan(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Those of its call, whatever the process was started with."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["python", "of", "somebody", "else"])
    asked = "vit-mlp:tiny --edge jetson-agx-orin --cloud a100 --link 10MB/s,0.1ms --pin mlp*=cloud"
    found = CliRunner().invoke(commands.vlacut, ["plan", *asked.split(), "--pool=block"])
    assert found.exit_code == 0, found.output
    (line,) = re.findall(r"next: (.*)", CONTROL.sub("", found.stdout))
    assert line == f"vlacut compile {asked} --pool=block -o vit-mlp.vlacut".replace(
        "mlp*=cloud", "'mlp*=cloud'"
    )


def test_every_command_says_what_comes_next() -> None:
    """The others of the list: what they do takes long, so that their source is read instead."""
    # They print what another program reads, or go on.
    silent = {"cluster", "completion", "opt", "serve"}
    for command, (where, _) in commands.vlacut.where.items():
        said = getsource(import_module(f"vlacut.cli.{where.partition(':')[0]}"))
        assert command in silent or re.search(r"\bnext: |say_next\(", said), command
