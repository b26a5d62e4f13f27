"""vlacut-export: one file beside an older PyTorch, whose folders compile here."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.cuda_stubs import make_stubs
from support.policies import old_policy
from support.programs import TARGET
from torch import nn

from vlacut.bundle.opened import Bundle
from vlacut.compiler.driver import compile_program
from vlacut.errors import ModelError
from vlacut.frontends.load import load_program
from vlacut.frontends.standalone import vlacut_export
from vlacut.frontends.standalone.vlacut_export import ExportError, export_policy, main
from vlacut.ir.annotation import EXAMPLE
from vlacut.runtime.verification import verify_bundle

SCRIPT, POLICY = Path(vlacut_export.__file__), Path(old_policy.__file__)
# Each is another way that torch.export worked inside: 2.4 before its training IR, 2.6 with it as an
# option, 2.8 with it, and its new archive not yet.
OLDER = {"2.4.1": "1.26.4", "2.6.0": "1.26.4", "2.8.0": "2.2.6"}
BESIDE = [
    "filelock",
    "typing-extensions",
    "sympy==1.13.3",
    "networkx",
    "jinja2",
    "fsspec",
    "mpmath",
    "MarkupSafe",
]


def compiled(folder: Path, out: Path) -> Bundle:
    return compile_program(load_program(str(folder)), TARGET, out)[1]


def expected() -> dict[str, np.ndarray]:
    """What the modules themselves make of their examples."""
    module, args, kwargs = old_policy.whole()
    with torch.no_grad():
        made = module(*args, **kwargs)
        noise, seen = torch.linspace(-1, 1, 7)[None], module.encode(*old_policy.batch().values())
        for _ in range(4):
            noise = module.act(seen, noise)
    h, c = made["state"]
    found = {"whole.action": made["action"], "whole.state.0": h, "whole.state.1": c}
    return {name: each.numpy() for name, each in {**found, "phases.action": noise}.items()}


def check(folders: Path, tmp_path: Path) -> None:
    """Both folders compile, hold to their files, and make what the modules do."""
    wanted = expected()
    for which in ("whole", "phases"):
        bundle = compiled(folders / which, tmp_path / which)
        record = bundle.manifest.model_check
        assert record.against == f"the files of {which}"
        assert record.observations == 3
        assert all(result.passed for result in verify_bundle(bundle))
        for name, array in bundle.golden("action").items():
            np.testing.assert_allclose(array, wanted[f"{which}.{name}"], atol=2e-6, err_msg=name)


def test_it_needs_the_standard_library_and_torch_alone() -> None:
    tree = ast.parse(SCRIPT.read_text(), feature_version=(3, 10))
    named = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    assert named - set(sys.stdlib_module_names) == {"torch"}


@pytest.mark.slow
def test_a_folder_of_this_torch_compiles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"{POLICY}:whole", "-o", str(tmp_path / "out" / "whole")]) == 2
    assert "out: No such file or directory" in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    for which in ("whole", "phases"):
        assert main([f"{POLICY}:{which}", "-o", str(tmp_path / "out" / which)]) == 0
    said = capsys.readouterr().out
    assert len(re.findall("against your PyTorch module: largest difference", said)) == 3
    check(tmp_path / "out", tmp_path)
    program = load_program(str(tmp_path / "out" / "whole"))
    assert [spec.name for spec in program.inputs] == [
        *("observation.images.top", "observation.images.wrist", "tokens", "mask", "h", "c")
    ]
    assert set(EXAMPLE.get(program)) == {spec.name for spec in program.inputs}


def test_weights_that_phases_share_are_stored_once(tmp_path: Path) -> None:
    export_policy(old_policy.phases(), tmp_path / "out")
    program = load_program(str(tmp_path / "out"))
    names = [set(phase.model.graph.initializers) for phase in program.phases]
    assert "head.weight" in names[1]
    assert "memory.weight_ih_l0" not in names[0] | names[1]  # neither phase reads it


def test_a_wrong_trace_is_refused_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([f"{POLICY}:wrong", "-o", str(out)]) == 2
    assert "phase main is traced wrongly: output_0 differs by" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main([f"{POLICY}:wrong", "-o", str(out), "--no-check"]) == 0
    assert "not compared with its module: --no-check" in (out / "program.toml").read_text()


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return x + self.seen


class Cache(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(4, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.keys[1:3] = x
        return self.keys * 2


class Counting(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nonzero(x)


X = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (lambda: nn.Tanh(), "it must be"),
        (lambda: {"phases": []}, "phases and outputs are needed"),
        (lambda: {"phases": [{"name": "a"}], "outputs": ["y"]}, "module is missing"),
        (lambda: {"phases": [], "outputs": ["y"], "phase": []}, "'phase' is none of them"),
        (lambda: (Counter(), (X,)), "writes into seen"),
        (lambda: (Cache(), (X,)), "writes into keys"),
        (lambda: (Counting(), (X,)), "a shape"),
        (lambda: (nn.Sequential(nn.Dropout()).train(), (X,)), "module.eval"),
        (lambda: phase(outputs=["y", "z"]), "2 names of outputs"),
        (lambda: phase(carried={"y": "z"}), "carried y = z"),
        (lambda: phase(method="go"), "has no method go"),
        (lambda: phase(inputs={"x": 3}), "input x is no tensor"),
    ],
)
def test_what_is_wrong_is_said_on_one_line(
    policy: Callable[[], Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=says) as caught:
        export_policy(policy(), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def phase(**changed: Any) -> dict[str, Any]:
    one = {"name": "main", "module": nn.Tanh(), "inputs": {"x": X}, "outputs": ["y"], **changed}
    return {"phases": [one], "outputs": ["y"]}


def test_a_folder_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ExportError, match="is there already"):
        export_policy((nn.Tanh(), (X,)), tmp_path / "out")


def test_a_pt2_phase_needs_names(tmp_path: Path) -> None:
    export_policy((nn.Tanh(), (X,)), tmp_path / "out")
    file = tmp_path / "out" / "program.toml"
    file.write_text(
        "\n".join(line for line in file.read_text().splitlines() if "inputs" not in line)
    )
    with pytest.raises(ModelError, match="inputs is missing; name its tensors"):
        load_program(str(tmp_path / "out"))


class Operators(nn.Module):
    """Arguments of every kind that the writer has a form for."""

    def __init__(self) -> None:
        super().__init__()
        self.tied = nn.Linear(4, 4)
        self.other = nn.Linear(4, 4)
        self.other.weight = self.tied.weight

    def forward(self, x: torch.Tensor, index: torch.Tensor) -> Any:
        first, second = self.other(self.tied(x)).split([1, 3], dim=-1)
        values, places = torch.sort(second, dim=-1, descending=True)
        picked = x[index, None].to(torch.float64).clamp(min=-math_inf(), max=0.5)
        shape = torch.nn.functional.interpolate(x[None, None], scale_factor=2.0, mode="nearest")
        padded = torch.nn.functional.pad(first, (1, 2), value=float("-inf"))
        empty = x.sum(dim=[], keepdim=False).to(torch.bfloat16).contiguous()
        return values, places, {"picked": picked.float(), "more": [shape, padded]}, empty.float()


def math_inf() -> float:
    return float("inf")


def test_operators_with_arguments_of_every_kind(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, args = Operators().eval(), (torch.randn(3, 4), torch.tensor([2, 0]))
    export_policy((module, args), tmp_path / "out")
    bundle = compiled(tmp_path / "out", tmp_path / "b")
    made = bundle.golden("action")
    assert set(made) == {"output_0", "output_1", "picked", "more.0", "more.1", "output_3"}
    values, places, rest, _ = module(*args)
    np.testing.assert_allclose(made["output_0"], values.detach().numpy(), atol=1e-6)
    np.testing.assert_array_equal(made["output_1"], places.numpy())
    np.testing.assert_allclose(made["picked"], rest["picked"].numpy(), atol=1e-6)


@pytest.fixture(params=list(OLDER), scope="module")
def older(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[str]]:
    """A Python with an older torch, as words of a command."""
    version = request.param
    if shutil.which("gcc") is None or shutil.which("readelf") is None:
        pytest.skip("gcc and readelf make the stand-ins for CUDA's libraries, and are not here")
    folder = tmp_path_factory.mktemp("older")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    packages = [f"torch=={version}", f"numpy=={OLDER[version]}", *BESIDE]
    done = subprocess.run([*pip, *packages], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"torch {version} cannot be had here: {done.stderr.strip().splitlines()[-1]}")
    (site,) = (folder / "venv" / "lib").glob("python3.*/site-packages")
    if list((site / "torch" / "lib").glob("libtorch_cuda*.so")):
        make_stubs(site / "torch", folder / "stubs")
    yield ["env", f"LD_LIBRARY_PATH={folder / 'stubs'}", str(python)]
    shutil.rmtree(folder)  # some 2 GB


@pytest.mark.slow
def test_a_folder_of_an_older_torch_compiles(older: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(SCRIPT, tmp_path / "vlacut_export.py")  # as a user does
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for which in ("whole", "phases", "wrong"):
        words = [
            *older,
            str(tmp_path / "vlacut_export.py"),
            f"{POLICY}:{which}",
            "-o",
            str(out / which),
        ]
        done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
        if which == "wrong":
            assert done.returncode == 2
            assert "phase main is traced wrongly" in done.stderr
        else:
            assert done.returncode == 0, done.stderr
            assert "against your PyTorch module: largest difference" in done.stdout
    check(out, tmp_path)
    stated = json.dumps((out / "whole" / "program.toml").read_text())
    assert "torch 2." in stated
