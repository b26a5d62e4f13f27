"""`rollout` and `serve --watch`, as commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from support.commands import Vlacut
from support.programs import TARGET, looping_program
from support.proxy import wait_until

from vlacut.compiler.driver import compile_program


def test_a_running_server_is_given_a_version_and_relieved_of_another(
    vlacut: Vlacut, split_bundle: Path, tmp_path: Path
) -> None:
    folder, other = tmp_path / "watched", tmp_path / "other"
    folder.mkdir()
    compile_program(looping_program(trips=2), TARGET, other)
    assert vlacut("rollout", split_bundle, folder)[0] == 0
    words = [sys.executable, "-m", "vlacut", "serve", str(folder), "--watch", "--port", "0"]
    words += ["--json", "--metrics", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = json.loads(child.stdout.readline())
        try:
            status, out, error = vlacut(
                "rollout", other, folder, "--retire", split_bundle.name, "--json"
            )
            assert status == 0, error
            assert json.loads(out)["retired"] == split_bundle.name

            def served() -> bool:
                found = json.loads(vlacut("status", said["metrics"], "--json")[1])
                return [one["name"] for one in found["bundles"]] == ["other"]

            assert wait_until(served, 40)
            status, out, error = vlacut("run", other, "--cloud", said["address"], "--json")
            assert status == 0, error
            assert json.loads(out)["max_abs_error"] == 0
        finally:
            child.terminate()
    assert child.returncode == 0


def test_what_it_refuses(vlacut: Vlacut, split_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "watched"
    for words, said in (
        ((split_bundle, folder), "is no folder"),
        ((split_bundle, tmp_path, "--retire", "old"), "holds no bundle of that name"),
        ((split_bundle, tmp_path, "--retire", ".."), "holds no bundle of that name"),
        ((tmp_path / "none", tmp_path), "is no bundle"),
    ):
        status, _, error = vlacut("rollout", *words)
        assert (status, said in error) == (2, True), error
    status, _, error = vlacut("serve", split_bundle, "--watch")
    assert (status, "--watch follows one folder" in error) == (2, True)
    assert not list(tmp_path.iterdir())
