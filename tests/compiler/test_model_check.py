"""A bundle is held to the model that it came from, and says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from support.commands import Vlacut
from support.programs import TARGET, looping_program
from support.slow import quick
from support.torch_models import Llama, denoiser, seeded, tokens
from torch import nn

import vlacut as library
from vlacut.bundle.model_check import ModelCheck
from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import open_bundle
from vlacut.compiler.driver import compile_program
from vlacut.compiler.trace_cache import TraceCache
from vlacut.compiler.tracing import traced_program
from vlacut.errors import InputError, ModelDiffers
from vlacut.frontends.onnx import onnx_program
from vlacut.frontends.torch import TorchPhase, program_from_module, program_from_torch
from vlacut.ir.program import Program
from vlacut.runtime.verification import verify_bundle

# Ones are an example that hides what a mask does.
ONES, TOKENS = torch.ones(1, 8, dtype=torch.long), torch.arange(8)[None] * 3 % 11


class Attention(nn.Module):
    """One layer over a prefix, whose mask may be decided elsewhere while it is traced.

    As in PaliGemma of transformers 5.23: tokens of the prefix attend to each other both ways, and
    the code that chooses the mask asks whether it is being traced.
    """

    def __init__(self, decided: str) -> None:
        super().__init__()
        self.decided = decided
        self.embed = nn.Embedding(11, 16)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        seen = self.embed(tokens)
        scores = seen @ seen.transpose(1, 2) / 4.0
        if torch.compiler.is_compiling() and self.decided == "causal":
            scores = scores + torch.full((8, 8), -1e9).triu(1)
        if not (torch.compiler.is_compiling() and self.decided == "full"):
            scores = scores.masked_fill(mask[:, None] == 0, -1e9)
        return scores.softmax(-1) @ seen


def compiled(program: Program, out: Path, **options: object) -> Bundle:
    return compile_program(program, TARGET, out / "b", **options)[1]  # type: ignore[arg-type]


def traced(decided: str) -> Program:
    return program_from_module(seeded(lambda: Attention(decided)), (TOKENS, ONES))


def test_a_bundle_records_how_far_it_is_from_its_module(tmp_path: Path) -> None:
    bundle = compiled(traced("as it is"), tmp_path)
    record = bundle.manifest.model_check
    assert record.against == "your PyTorch module"
    assert record.observations == 3
    assert 0 <= record.difference <= 1e-5 * record.magnitude
    first, uncut, cut = verify_bundle(bundle)
    assert (first.comparison, uncut.comparison, cut.comparison) == (
        "module",
        "uncut program",
        "cut",
    )
    assert first.max_abs_error == record.difference
    assert first.passed
    assert open_bundle(bundle.root).manifest.model_check == record


@pytest.mark.parametrize(
    ("decided", "where"), [("causal", "on the example"), ("full", r"variation of it, .*mask")]
)
def test_a_trace_that_differs_in_silence_is_refused(
    decided: str, where: str, tmp_path: Path
) -> None:
    """A mask that is another one at once, and one that the example of ones hides."""
    with pytest.raises(ModelDiffers, match=rf"model is not your PyTorch module: main/.* {where}"):
        compiled(traced(decided), tmp_path)
    assert not (tmp_path / "b").exists()
    bundle = compiled(traced(decided), tmp_path, model_check=False)
    assert verify_bundle(bundle)[0].why_not == "--no-model-check"


def test_a_tolerance_is_a_share_and_allows_what_it_says(tmp_path: Path) -> None:
    record = compiled(traced("causal"), tmp_path, model_tolerance=2.0).manifest.model_check
    assert 1e-4 < record.difference / record.magnitude <= record.tolerance == 2.0
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="--model-tolerance"):
            compiled(traced("causal"), tmp_path, model_tolerance=wrong)


class Loop(nn.Module):
    """A loop that goes wrong in its last trip alone, or in an output that nothing reads."""

    def __init__(self, wrong: str = "") -> None:
        super().__init__()
        self.wrong = wrong
        self.act = nn.Linear(4, 4)

    def forward(self, state: torch.Tensor, step: torch.Tensor) -> tuple[torch.Tensor, ...]:
        made, unread = torch.tanh(self.act(state)), state * 2
        if torch.compiler.is_compiling() and self.wrong == "last trip":
            made = torch.where(step == 4, made * 1.1, made)
        if torch.compiler.is_compiling() and self.wrong == "unread":
            unread = unread * 1.1
        return made, step + 1, unread


def looped(wrong: str) -> Program:
    inputs = {"state": torch.ones(1, 4), "step": torch.zeros(1)}
    phase = TorchPhase(
        "act",
        seeded(lambda: Loop(wrong)),
        inputs,
        ("action", "next_step", "unread"),
        trips=5,
        carried={"action": "state", "next_step": "step"},
    )
    return program_from_torch("looped", [phase], list(inputs), ["action"])


def test_the_last_trip_and_every_output_are_compared(tmp_path: Path) -> None:
    assert compiled(looped(""), tmp_path).manifest.model_check.difference < 1e-6
    with pytest.raises(ModelDiffers, match=r"act/action .* the example, trip 5 of 5"):
        compiled(looped("last trip"), tmp_path)
    with pytest.raises(ModelDiffers, match=r"act/unread .* trip 1 of 5"):
        compiled(looped("unread"), tmp_path)


def test_phases_of_a_policy_are_methods_of_it(tmp_path: Path) -> None:
    record = compiled(denoiser()[1], tmp_path).manifest.model_check
    assert record.against == "your PyTorch module"
    assert record.difference < 1e-6 * record.magnitude


def wrongly(model: ir.Model) -> ir.Model:
    """As if a rewriting of the front end were wrong: the first Tanh is a Sigmoid."""
    node = next(node for node in model.graph if node.op_type == "Tanh")
    node.op_type = "Sigmoid"
    return model


def test_a_file_is_run_as_it_was(
    onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = compiled(onnx_program(onnx_file), tmp_path).manifest.model_check
    assert record.against == "the file policy.onnx"
    from vlacut.frontends import onnx as frontend

    finish: Callable[..., ir.Model] = frontend.finish_graph
    monkeypatch.setattr(frontend, "finish_graph", lambda *args: wrongly(finish(*args)))
    program = onnx_program(onnx_file)
    with pytest.raises(ModelDiffers, match=r"is not the file policy\.onnx: main/"):
        compiled(program, tmp_path)


@pytest.mark.parametrize("kind", quick(["exported", "saved"], "saved"))
def test_an_exported_program_is_run_by_torch(kind: str, tmp_path: Path) -> None:
    exported = torch.export.export(seeded(Llama), (tokens(5),), strict=False)
    given: object = exported
    if kind == "saved":
        torch.export.save(exported, tmp_path / "llama.pt2")
        given = str(tmp_path / "llama.pt2")
    bundle = library.compile(given, out=tmp_path / "b", **vars(TARGET))
    record = bundle.manifest.model_check
    assert record.against == "the exported program"
    assert record.difference <= 1e-5 * record.magnitude


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    record = compiled(looping_program(), tmp_path).manifest.model_check
    assert record.why_not == "what the program came from is not known"
    record = compiled(denoiser()[1], tmp_path, backend="emulated").manifest.model_check
    assert record.why_not == "parts for emulated compute nothing"
    meta = program_from_module(seeded(lambda: nn.Linear(4, 4)).to("meta"), (torch.ones(1, 4),))
    record = compiled(meta, tmp_path, backend="emulated").manifest.model_check
    assert record.why_not == "it was traced on shapes alone"


def test_another_back_end_is_compared_by_one_that_runs_here(tmp_path: Path) -> None:
    record = compiled(traced("as it is"), tmp_path, backend="onnx", golden=False)
    assert record.manifest.model_check.observations == 3
    with pytest.raises(ModelDiffers):
        compiled(traced("causal"), tmp_path, backend="onnx", golden=False)


class Picky(nn.Module):
    """Takes no whole numbers but those of its example."""

    def forward(self, image: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        if not torch.compiler.is_compiling() and grid.sum() != 4:
            raise ValueError("this grid is none")
        return image * grid


def test_a_model_that_takes_no_other_numbers_is_compared_on_floats(tmp_path: Path) -> None:
    program = program_from_module(Picky(), (torch.randn(3), torch.tensor([1, 1, 2])))
    planned, bundle = compile_program(program, TARGET, tmp_path / "b")
    assert bundle.manifest.model_check.observations == 2
    assert any("ValueError: this grid is none" in warning for warning in planned.warnings)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types_have_tolerances_of_their_own(dtype: torch.dtype, tmp_path: Path) -> None:
    module = seeded(lambda: nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 8))).to(dtype)
    program = program_from_module(module, (torch.linspace(-1, 1, 32, dtype=dtype)[None],))
    record = compiled(program, tmp_path).manifest.model_check
    allowed = {torch.float16: 2e-2, torch.bfloat16: 5e-2, torch.float64: 1e-6}
    assert record.tolerance == allowed[dtype]
    assert record.difference <= record.tolerance * record.magnitude


def test_the_command_line_says_it(vlacut: Vlacut, tmp_path: Path) -> None:
    (tmp_path / "policy.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return -x if torch.compiler.is_compiling() else x\n"
        "def wrong():\n"
        "    return Net(), (torch.ones(3),)\n"
        "def right():\n"
        "    return torch.nn.Tanh(), (torch.ones(3),)\n"
    )
    words = ("--edge", TARGET.edge, "--cloud", TARGET.cloud, "--link", TARGET.link)
    out = ("-o", tmp_path / "b")
    status, said, _ = vlacut("compile", f"{tmp_path}/policy.py:right", *words, *out)
    assert status == 0
    assert "against your PyTorch module: largest difference" in said
    status, said, _ = vlacut("verify", tmp_path / "b")
    assert status == 0
    assert "your PyTorch module and the uncut program, when compiled" in said
    status, said, err = vlacut("compile", f"{tmp_path}/policy.py:wrong", *words, *out, "--json")
    assert status == 1
    assert json.loads(said)["error"]["kind"] == "ModelDiffers"
    assert err.count("\n") == 1
    words = (*words, "--no-model-check", *out, "--json")
    status, said, _ = vlacut("compile", f"{tmp_path}/policy.py:wrong", *words)
    assert json.loads(said)["model_check"]["why_not"] == "--no-model-check"


@pytest.mark.parametrize(
    "change", [{"difference": float("nan")}, {"tolerance": -1.0}, {"against": ""}]
)
def test_a_record_that_cannot_be_is_none(change: dict[str, object]) -> None:
    right = ModelCheck("the file", "", 0.5, 1.0, "y", 1.0, 1)
    with pytest.raises(ValueError, match="model check"):
        ModelCheck(**{**vars(right), **change})  # type: ignore[arg-type]


def test_masks_and_numbers_are_drawn_in_their_range() -> None:
    from vlacut.tensor import TensorSpec
    from vlacut.tensor.numerics import FLOATS, MASKED, probing

    observed = {
        "mask": np.ones((2, 6), np.int64),
        "pad": np.zeros((2, 6), bool),
        "ids": np.array([3, 9, 5]),
        "image": np.linspace(0, 1, 8, dtype=np.float32),
        "none": np.zeros((0, 3), np.int64),
    }
    specs = [TensorSpec(name, array.dtype.name, array.shape) for name, array in observed.items()]
    floats = probing(specs, observed, FLOATS)
    assert [name for name in observed if not np.array_equal(floats[name], observed[name])] == [
        "image"
    ]
    padded = probing(specs, observed, MASKED)
    np.testing.assert_array_equal(padded["mask"][0], [1, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(padded["pad"][1], [False] * 3 + [True] * 3)
    for seed in range(MASKED, 20):
        drawn = probing(specs, observed, seed)
        assert (drawn["mask"][:, 0] == 1).all()
        assert 3 <= drawn["ids"].min() <= drawn["ids"].max() <= 9


@pytest.mark.slow
def test_a_trace_from_the_cache_is_compared_with_the_module_as_it_is_now(
    tmp_path: Path, onnx_file: Path
) -> None:
    """A function makes its module anew; a file is there; a model of the zoo is traced once more."""
    text = (
        "import torch\n"
        "def tanh():\n"
        "    torch.manual_seed(0)\n"
        "    net = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh())\n"
        "    return net, (torch.ones(2, 8),)\n"
    )
    (tmp_path / "policy.py").write_text(text)
    # No model of transformers: torch cannot save what it exports of those of some releases.
    net = nn.Sequential(nn.Embedding(9, 8), nn.Tanh(), nn.Linear(8, 4)).eval()
    exported = torch.export.export(net, (tokens(5) % 9,), strict=False)
    torch.export.save(exported, tmp_path / "net.pt2")
    cache = TraceCache(tmp_path / "cache")
    for model, against in (
        (f"{tmp_path}/policy.py:tanh", "your PyTorch module"),
        (str(onnx_file), "the file policy.onnx"),
        (str(tmp_path / "net.pt2"), "the exported program"),
        ("vit-mlp:tiny", "your PyTorch module"),
    ):
        traced_program(model, cache=cache)
        said: list[str] = []
        program = traced_program(model, cache=cache, say=said.append)
        assert not said
        out = tmp_path / f"{Path(model).name}.vlacut"
        record = compile_program(program, TARGET, out)[1].manifest.model_check
        assert record.against == against


def test_traces_golden_steps_and_checks_are_counted(tmp_path: Path) -> None:
    """So that the time left is known of each."""
    told: list[tuple[str, int, int]] = []
    inputs = {"x": torch.ones(1, 4), "y": torch.ones(1, 4)}

    def traced() -> Program:
        phases = [
            TorchPhase("one", nn.Linear(4, 4), {"x": inputs["x"]}, ("y",)),
            TorchPhase(
                "loop", nn.Linear(4, 4), {"y": inputs["y"]}, ("y2",), trips=3, carried={"y2": "y"}
            ),
        ]
        return program_from_torch("counted", phases, ["x"], ["y2"])

    compile_program(traced, TARGET, tmp_path / "b", progress=lambda *stage: told.append(stage))
    for what, many in (("trace", 2), ("golden", 4), ("model check", 4)):
        found = [stage for stage in told if stage[0].startswith(what)]
        counted = [(done, total) for _, done, total in found][:many]
        assert counted == [(done, many) for done in range(many)], what
