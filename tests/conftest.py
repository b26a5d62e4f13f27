"""Fixtures that several files share."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from hypothesis import settings
from support.commands import Vlacut
from support.programs import TARGET, looping_program
from support.proxy import wait_until
from support.strays import strays

from vlacut.compiler.driver import compile_program
from vlacut.security.keys import make_keys

# Property tests draw the same examples in every run; `--hypothesis-profile default` draws others.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


_CACHE = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Every run has a cache of its own; its workers share it."""
    if not hasattr(config, "workerinput"):
        config.stash[_CACHE] = os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="vlacut-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Nothing of the run stays."""
    if _CACHE in config.stash:
        shutil.rmtree(config.stash[_CACHE], ignore_errors=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--bless`: golden texts and READMEs are rewritten to what is printed now."""
    parser.addoption("--bless", action="store_true", help="rewrite golden texts and READMEs")


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup() -> None:
    """The same weights in every run, whichever tests it has and in whichever order."""
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """As for fixtures."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_strays() -> Iterator[None]:
    """What a test starts ends with it: a thread that goes on disturbs whichever test comes next."""
    before = set(threading.enumerate())
    yield
    assert wait_until(lambda: not strays(before), 60), f"still running: {strays(before)}"


@pytest.fixture(scope="session")
def split_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a program with a loop, with parts on both sides."""
    path = tmp_path_factory.mktemp("bundle") / "looping.vlacut"
    _, bundle = compile_program(looping_program(), TARGET, path)
    assert {part.side.value for part in bundle.plan.parts} == {"edge", "cloud"}
    return path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys of a cloud and of a robot."""
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder, ("robot",), 1)
    return folder


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one phase as a file."""
    path = tmp_path_factory.mktemp("model") / "policy.onnx"
    ir.save(looping_program().phases[0].model, path)
    return path


@pytest.fixture
def vlacut(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Vlacut:
    """Commands, as a user types them."""
    return Vlacut(monkeypatch, capsys)
