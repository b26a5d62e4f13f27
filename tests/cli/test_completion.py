"""What shells are offered, and what the list of commands says without importing them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import get_completion_class
from support.commands import Vlacut

from vlacut.cli.commands import vlacut as commands
from vlacut.cli.completion import SHELLS
from vlacut.hardware import device_names
from vlacut.runtime.network.selectors import SELECTORS

NAMES = commands.list_commands(click.Context(commands))
BIN = Path(sys.executable).parent


def offered(line: str, monkeypatch: pytest.MonkeyPatch, shell: str = "bash") -> list[str]:
    """The words that a shell is offered at the end of a line, files left out."""
    made = get_completion_class(shell)
    assert made is not None
    words = line.split(" ")
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    monkeypatch.setenv("COMP_WORDS", line)
    last = words[-1] if shell == "fish" else str(len(words) - 1)
    monkeypatch.setenv("COMP_CWORD", last)
    completing = made(commands, {}, "vlacut", "_VLACUT_COMPLETE")
    found = completing.get_completions(*completing.get_completion_args())
    return [item.value for item in found if item.type == "plain"]


@pytest.mark.parametrize("name", NAMES)
def test_the_list_says_what_the_command_says(name: str) -> None:
    command = commands.get_command(click.Context(commands), name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str(200) == commands.where[name][1]
    assert len(commands.where[name][1]) <= 80 - 22, "the list would break it on a terminal"


def loaded_by(*words: str) -> tuple[str, set[str]]:
    """What a command prints, and the modules that it has imported when it ends."""
    code = (
        f"import sys; sys.argv[1:] = {list(words)}\n"
        "import atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
        "from vlacut.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout, set(done.stderr.split())


def test_the_list_imports_no_command() -> None:
    """So it takes what click takes, and no second more; `tools/bench_start.py` measures it."""
    printed, loaded = loaded_by("--help")
    assert "vlacut.cli.commands" in loaded
    assert (
        not {
            "numpy",
            "onnx_ir",
            "torch",
            "vlacut.cli.building.compile",
            "vlacut.cli.building.plan",
            "vlacut.cli.building.lists",
        }
        & loaded
    )
    assert all(name in printed for name in NAMES)


def test_devices_import_what_a_table_takes() -> None:
    """Nothing is counted, written or read of a trace there; `tools/bench_start.py` measures it."""
    printed, loaded = loaded_by("devices")
    assert "jetson-agx-orin" in printed
    assert "vlacut.cli.building.lists" in loaded
    assert not {"numpy", "vlacut.bundle", "rich.progress", "statistics", "difflib"} & loaded


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("vlacut pro", ["profile"]),
        ("vlacut plan vit-mlp --edge jetson-agx-t", ["jetson-agx-thor"]),
        ("vlacut plan vit-mlp --cloud h100+", ["h100+eager", "h100+cuda-graph"]),
        ("vlacut plan vit-mlp --edge jetson-agx-orin@30", ["jetson-agx-orin@30W"]),
        ("vlacut plan vit", ["vit-mlp"]),
        ("vlacut plan vit-mlp:", ["vit-mlp:full", "vit-mlp:tiny"]),
        ("vlacut plan vit-mlp --minimise e", ["energy"]),
        ("vlacut check p --target a100-", ["a100-40gb"]),
        ("vlacut compile vit-mlp --backend onnxr", ["onnxruntime"]),
        ("vlacut run p --selector a", ["argmin"]),
        ("vlacut simulate p --predictor h", ["harmonic", "holt"]),
        ("vlacut opt vit-mlp -p sim", ["simplify"]),
        (
            "vlacut opt vit-mlp -p simplify,annotate-c",
            ["simplify,annotate-codecs", "simplify,annotate-cost"],
        ),
        ("vlacut opt vit-mlp -p partition{str", ["partition{strategy="]),
        ("vlacut opt vit-mlp -p partition{strategy=robo", ["partition{strategy=roboecc"]),
    ],
)
def test_a_shell_is_offered(
    shell: str, line: str, some: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = offered(line, monkeypatch, shell)
    assert found[: len(some)] == some
    assert all(word.startswith(line.split(" ")[-1]) for word in found)


def test_all_devices_and_selectors_are_offered(
    split_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert offered("vlacut plan x --edge ", monkeypatch) == list(device_names())
    found = offered(f"vlacut run {split_bundle} --selector ", monkeypatch)
    assert found == [*SELECTORS, "chosen"]


def test_nothing_is_offered_for_what_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for line in (
        "plan nothing:",
        "plan x --edge nothing@",
        "opt x -p nothing{",
        "run no --selector z",
    ):
        assert offered(f"vlacut {line}", monkeypatch) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_one_that_its_shell_reads(shell: str, vlacut: Vlacut, tmp_path: Path) -> None:
    status, script, err = vlacut("completion", shell)
    assert (status, err) == (0, "")
    assert f"_VLACUT_COMPLETE={shell}_complete" in script
    if not (program := shutil.which(shell)):
        pytest.skip(f"no {shell} here to read it")
    file = tmp_path / "script"
    file.write_text(script)
    done = subprocess.run([program, "-n", str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "words", "reply"),
    [
        (
            "vlacut plan x --edge=jetson-agx-th",
            "vlacut plan x --edge = jetson-agx-th",
            "jetson-agx-thor",
        ),
        (
            "vlacut plan x --edge jetson-agx-orin@30",
            "vlacut plan x --edge jetson-agx-orin @ 30",
            "30W",
        ),
        ("vlacut run x --selector thr", "vlacut run x --selector thr", "thresholds"),
    ],
)
def test_bash_itself_completes(line: str, words: str, reply: str) -> None:
    """Words as bash takes the line apart; the reply takes the place of the last of them."""
    if not shutil.which("bash"):
        pytest.skip("no bash here")
    script = f"""
        eval "$(vlacut completion bash)"
        COMP_WORDS=({words}) COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
        COMP_LINE='{line}' COMP_POINT={len(line)}
        compopt() {{ :; }}
        _vlacut_completion vlacut; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [reply]
