"""A model is traced once: what the cache gives is the program to the last bit, or it is traced."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.commands import Vlacut
from support.programs import looping_program
from support.torch_models import denoiser

from vlacut.compiler import trace_entry, tracing
from vlacut.compiler.simplified import SIMPLIFIED, run_passes_once
from vlacut.compiler.trace_cache import TraceCache
from vlacut.compiler.trace_sources import Sources, file_digest, file_size
from vlacut.compiler.tracing import traced_program
from vlacut.errors import unwatched
from vlacut.ir.annotation import EXAMPLE
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.printer import print_program
from vlacut.ir.program import Phase, Program
from vlacut.ir.storage import read_program, write_program
from vlacut.ir.verifier import verify

NOTHING = Sources({}, {}, ())
TARGET = ("--edge", "jetson-agx-orin", "--cloud", "a100", "--link", "10MB/s,20ms")


def silent(line: str) -> None:
    raise AssertionError(line)


def same(one: Program, other: Program) -> None:
    """Equal in text, order, weights and example."""
    verify(one)
    assert print_program(one) == print_program(other)
    assert (one.inputs, one.outputs) == (other.inputs, other.outputs)
    for phase, known in zip(one.phases, other.phases, strict=True):
        weights, wanted = phase.model.graph.initializers, known.model.graph.initializers
        assert list(weights) == list(wanted)
        for name, value in weights.items():
            np.testing.assert_array_equal(value.const_value.numpy(), wanted[name].const_value)
    examples = [EXAMPLE.find(program) or {} for program in (one, other)]
    assert list(examples[0]) == list(examples[1])
    for name, array in examples[0].items():
        np.testing.assert_array_equal(array, examples[1][name])


@pytest.fixture(scope="module")
def program() -> Program:
    return denoiser()[1]


def test_a_program_is_read_as_it_was_written(tmp_path: Path, program: Program) -> None:
    for made in (program, looping_program()):
        folder = tmp_path / made.name
        folder.mkdir()
        before = print_program(made)
        write_program(made, folder)
        assert print_program(made) == before
        same(read_program(folder), made)


def test_all_that_a_program_is_made_of_is_kept() -> None:
    """Who adds to one of these adds to `vlacut.ir.storage` too."""
    names = ["name", "phases", "inputs", "outputs", "meta", "state"]
    assert [one.name for one in fields(Program)] == names
    assert [one.name for one in fields(Phase)] == ["name", "model", "trips", "carried", "when"]


@pytest.fixture
def cache(tmp_path: Path) -> TraceCache:
    return TraceCache(tmp_path / "traces")


def test_a_kept_program_is_found_and_mapped(cache: TraceCache, program: Program) -> None:
    assert cache.find("k", silent) is None
    cache.keep("k", "denoiser", program, NOTHING, silent)
    found = cache.find("k", silent)
    assert found
    same(found, program)
    assert [entry.model for entry in cache.entries()] == ["denoiser"]
    assert cache.clear() == (0, 1)  # somebody reads it
    del found
    assert cache.clear() == (1, 0)
    assert list(cache.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["program.json", "0.onnx", "1.onnx", "entry.json"])
@pytest.mark.parametrize("how", ["flipped", "short", "gone"])
def test_a_damaged_entry_is_said_in_a_line_and_replaced(
    cache: TraceCache, program: Program, name: str, how: str
) -> None:
    cache.keep("k", "denoiser", program, NOTHING, silent)
    file = cache.folder / "k" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.unlink()
    if how != "gone":
        file.write_bytes(data if how == "flipped" else data[: len(data) // 2])
    said: list[str] = []
    assert cache.find("k", said.append) is None
    assert len(said) == 1
    assert "a damaged trace" in said[0]
    cache.keep("k", "denoiser", program, NOTHING, silent)
    found = cache.find("k", silent)
    assert found
    same(found, program)


def test_a_changed_source_makes_an_entry_older(cache: TraceCache, tmp_path: Path) -> None:
    source, large = tmp_path / "source.py", tmp_path / "weights.bin"
    source.write_text("one")
    large.write_text("large")
    package = tmp_path / "package-1.dist-info"
    package.mkdir()
    sources = Sources(
        {str(source): file_digest(source)},
        {str(large): file_size(large)},
        [str(package)],
    )
    cache.keep("k", "m", looping_program(), sources, silent)
    assert cache.find("k", silent)
    for changed, change in (
        (source, lambda: source.write_text("two")),
        (large, lambda: large.write_text("larger")),
        (package, package.rmdir),
    ):
        cache.keep("k", "m", looping_program(), NOTHING, silent)
        described = json.loads((cache.folder / "k" / "entry.json").read_bytes())
        described["sources"] = vars(sources)
        (cache.folder / "k" / "entry.json").write_text(json.dumps(described))
        change()
        said: list[str] = []
        assert cache.find("k", said.append) is None
        assert said == [f"m: {changed} has changed since; it is traced anew"]
        if changed is source:
            source.write_text("one")
        if changed is large:
            sources.sizes[str(large)] = file_size(large)


def test_the_least_recently_used_goes_first(cache: TraceCache) -> None:
    for name in ("a", "b", "c"):
        cache.keep(name, name, looping_program(), NOTHING, silent)
        os.utime(cache.folder / name / "used", (ord(name), ord(name)))
    os.utime(cache.folder / "a" / "used")  # read just now
    cache.most_bytes = 3 * cache.entries()[0].nbytes
    cache.keep("d", "d", looping_program(), NOTHING, silent)
    assert {entry.key for entry in cache.entries()} == {"a", "c", "d"}


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "traces").write_text("a file")
    said: list[str] = []
    TraceCache(tmp_path / "traces").keep("k", "m", looping_program(), NOTHING, said.append)
    assert len(said) == 1
    assert "the trace is not kept" in said[0]


def _killed_while_writing(folder: Path, file: int) -> None:
    """Write an entry, and be killed when the file of that number is about to be written."""
    seen = 0

    def kill(*_: Any) -> str:
        nonlocal seen
        seen += 1
        if seen > file:
            os.kill(os.getpid(), signal.SIGKILL)
        return ""

    trace_entry.file_digest = kill
    TraceCache(folder).keep("k", "m", looping_program(), NOTHING, silent)


def _in_processes(count: int, target: Callable[..., None], *args: Any) -> list[int]:
    """Exit statuses of processes that run a function at the same time."""
    context = multiprocessing.get_context("fork")
    running = [context.Process(target=target, args=args) for _ in range(count)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    return [process.exitcode or 0 for process in running]


def test_nothing_is_taken_from_where_anybody_may_put_it(
    cache: TraceCache, program: Program
) -> None:
    """Who can write there could have a program of his own compiled and signed."""
    cache.keep("key", "model", program, NOTHING, silent)
    said: list[str] = []
    cache.folder.chmod(0o777)
    assert cache.find("key", said.append) is None
    cache.keep("other", "model", program, NOTHING, said.append)
    cache.folder.chmod(0o775)  # a group is trusted
    assert cache.find("key", silent) is not None
    assert cache.find("other", silent) is None
    assert (
        said
        == [f"anybody may write {cache.folder}: traces are neither taken from there nor kept"] * 2
    )
    if os.geteuid() == 0:
        os.chown(cache.folder, 12345, 0)
        assert cache.find("key", said.append) is None
        assert said[2].startswith(f"{cache.folder} is another user's")


def test_a_writer_that_is_killed_leaves_no_entry(cache: TraceCache) -> None:
    for file in range(3):
        assert _in_processes(1, _killed_while_writing, cache.folder, file) == [-signal.SIGKILL]
        assert cache.find("k", silent) is None
    cache.keep("k", "m", looping_program(), NOTHING, silent)
    assert cache.find("k", silent)
    assert cache.clear()[1] == 0


def _use(folder: Path, number: int) -> None:
    cache = TraceCache(folder, most_bytes=150_000)
    for turn in range(8):
        key = f"k{(number + turn) % 3}"
        found = cache.find(key, silent)
        if found is None:
            cache.keep(key, key, looping_program(), NOTHING, silent)
        else:
            same(found, looping_program())


@pytest.mark.parametrize(
    "count", [pytest.param(8, id="8"), pytest.param(100, id="100", marks=pytest.mark.slow)]
)
def test_many_processes_on_one_cache_see_whole_entries(cache: TraceCache, count: int) -> None:
    assert set(_in_processes(count, _use, cache.folder, count)) == {0}
    assert not list(cache.folder.glob(".*"))
    assert {entry.model for entry in cache.entries()} <= {"k0", "k1", "k2"}


def _ask(folder: Path, slow_s: float, wounded: bool = False) -> None:
    """Ask for one trace that takes a while; be killed in the middle of writing it if `wounded`."""
    cache = TraceCache(folder)

    def make() -> Program:
        with (folder / "log").open("a") as log:
            log.write(f"{os.getpid()}\n")
        time.sleep(slow_s)
        program = looping_program()
        if wounded:
            trace_entry.file_digest = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        cache.keep("k", "m", program, NOTHING, silent)
        return program

    said: list[str] = []
    same(cache.once("k", lambda say: cache.find("k", say), make, said.append), looping_program())
    assert set(said) <= {"another process traces it; this one waits"}


@pytest.mark.parametrize(
    "count", [pytest.param(4, id="4"), pytest.param(100, id="100", marks=pytest.mark.slow)]
)
def test_processes_that_ask_for_one_trace_make_one(cache: TraceCache, count: int) -> None:
    assert set(_in_processes(count, _ask, cache.folder, 0.3)) == {0}
    assert len((cache.folder / "log").read_text().splitlines()) == 1
    assert len(cache.entries()) == 1


@pytest.mark.parametrize(
    "count", [pytest.param(4, id="4"), pytest.param(100, id="100", marks=pytest.mark.slow)]
)
def test_who_waits_for_one_that_is_killed_traces(cache: TraceCache, count: int) -> None:
    context = multiprocessing.get_context("fork")
    first = context.Process(target=_ask, args=(cache.folder, 0.3, True))
    first.start()
    while not (cache.folder / "log").exists():
        time.sleep(0.01)
    assert set(_in_processes(count, _ask, cache.folder, 0.3)) == {0}
    first.join()
    assert first.exitcode == -signal.SIGKILL
    assert len((cache.folder / "log").read_text().splitlines()) == 2
    found = cache.find("k", silent)
    assert found
    same(found, looping_program())
    del found
    assert cache.clear()[1] == 0


def untraceable(*_: Any) -> None:
    raise AssertionError("was traced again")


def test_a_model_of_the_zoo_is_traced_once(
    cache: TraceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = traced_program("vit-mlp:tiny", {}, cache, silent)
    monkeypatch.setattr(tracing, "load_program", untraceable)
    found = traced_program("vit-mlp:tiny", {}, cache, silent)
    same(found, first)
    files = json.loads((cache.folder / cache.entries()[0].key / "entry.json").read_bytes())
    assert any(name.endswith("vit_mlp.py") for name in files["sources"]["files"])
    assert any("torch-" in name for name in files["sources"]["installed"])


USER = """
import torch
from width import WIDTH

def policy():
    module = torch.nn.Sequential(torch.nn.Linear(4, WIDTH), torch.nn.ReLU())
    return module.eval(), (torch.ones(1, 4),)
"""


def test_a_function_is_called_and_what_it_makes_is_traced_once(
    cache: TraceCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "user.py"
    file.write_text(USER)
    (tmp_path / "width.py").write_text("WIDTH = 3\n")
    model = f"{file}:policy"
    first = traced_program(model, {}, cache, silent)
    with monkeypatch.context() as patch:
        patch.setattr(tracing, "trace", untraceable)
        second = traced_program(model, {}, cache, silent)
    assert print_program(first) == print_program(second)
    weights = [
        program.phases[0].model.graph.initializers["0.weight"].const_value.numpy()
        for program in (first, second)
    ]
    assert not np.array_equal(*weights)  # the random ones that each call made
    (tmp_path / "width.py").write_text("WIDTH = 5\n")
    said: list[str] = []
    monkeypatch.delitem(__import__("sys").modules, "width")
    wider = traced_program(model, {}, cache, said.append)
    assert wider.outputs[0].shape == (1, 5)
    assert len(said) == 1
    assert "width.py has changed since" in said[0]


def test_a_file_is_known_by_its_content(cache: TraceCache, onnx_file: Path) -> None:
    first = traced_program(str(onnx_file), {}, cache, silent)
    same(traced_program(str(onnx_file), {}, cache, silent), first)
    assert len(cache.entries()) == 1


def test_commands_list_and_clear(
    vlacut: Vlacut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, onnx_file: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert vlacut("plan", onnx_file, *TARGET, "--no-cache")[0] == 0
    assert json.loads(vlacut("cache", "--json")[1])["traces"] == []
    plans = [json.loads(vlacut("plan", onnx_file, *TARGET, "--json")[1]) for _ in range(2)]
    assert plans[0]["parts"] == plans[1]["parts"]
    assert plans[0]["certificate"] == plans[1]["certificate"]
    listed = vlacut("cache")[1]
    assert str(onnx_file) in listed
    assert json.loads(vlacut("cache", "--clear", "--json")[1])["removed"] == 1
    assert "0 traces" in vlacut("cache")[1]


def planned(vlacut: Vlacut, *more: str) -> dict[str, Any]:
    """The plan of a zoo's model without its times."""
    rc, out, err = vlacut("plan", "vit-mlp:tiny", *TARGET, "--json", *more)
    assert rc == 0, err
    plan: dict[str, Any] = json.loads(out)
    for seconds in ("pass_s", "stage_s"):
        plan.pop(seconds)
    return plan


def test_a_plan_of_what_was_simplified_before_is_the_same(
    vlacut: Vlacut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, second = planned(vlacut), planned(vlacut)  # the second keeps what it simplified
    (kept,) = tmp_path.glob("vlacut/traces/*/simplified")
    with monkeypatch.context() as patch:
        patch.setattr("vlacut_passes.simplify.Simplify.run", untraceable)
        third = planned(vlacut)
    assert first == second == third == planned(vlacut, "--no-cache")
    (kept / "0.onnx").write_bytes(b"torn")
    assert planned(vlacut) == first
    (entry,) = TraceCache().entries()
    assert entry.nbytes > sum(file.stat().st_size for file in kept.iterdir())


def test_a_pass_that_fails_says_the_same_of_what_was_simplified_before(
    vlacut: Vlacut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    said = {vlacut("plan", "vit-mlp:tiny", *TARGET, "--deadline", "1us")[2] for _ in range(4)}
    (line,) = said
    assert "after simplify, annotate-structure" in line


def test_what_was_simplified_is_only_for_those_who_ask(
    cache: TraceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = parse_pipeline("simplify")
    raw = traced_program("vit-mlp:tiny", {}, cache, silent)
    asked = traced_program("vit-mlp:tiny", {}, cache, silent, simplified=True)
    same(asked, raw)
    run_passes_once(asked, passes, unwatched)
    found = traced_program("vit-mlp:tiny", {}, cache, silent, simplified=True)
    same(found, asked)
    assert print_program(found) != print_program(raw)
    same(traced_program("vit-mlp:tiny", {}, cache, silent), raw)
    before = print_program(found)
    run_passes_once(found, parse_pipeline("annotate-structure"), unwatched)  # another pipeline
    assert print_program(found) != before


def test_what_was_simplified_is_older_if_a_pass_changed(
    cache: TraceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced_program("vit-mlp:tiny", {}, cache, silent)
    asked = traced_program("vit-mlp:tiny", {}, cache, silent, simplified=True)
    run_passes_once(asked, parse_pipeline("simplify"), unwatched)
    (entry,) = cache.folder.glob("*/simplified/entry.json")
    described = json.loads(entry.read_bytes())
    (source,) = (name for name in described["sources"]["files"] if name.endswith("/simplify.py"))
    described["sources"]["files"][source] = "another"
    entry.write_text(json.dumps(described))
    again = traced_program("vit-mlp:tiny", {}, cache, pytest.fail, simplified=True)
    known = SIMPLIFIED.find(again)
    assert known is not None
    assert known.keep is not None  # it is simplified anew, and kept
