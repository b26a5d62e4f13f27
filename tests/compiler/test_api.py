"""The library, as its README says: compile a module, serve it, step a policy."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import MISSING, fields
from inspect import Parameter, signature
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from torch import fx, nn

import vlacut
from vlacut import errors
from vlacut.cli.building.compile import compile_command
from vlacut.cli.building.plan import plan_command
from vlacut.compiler.driver import compile_program
from vlacut.compiler.planning import plan_program
from vlacut.compiler.target import Target
from vlacut.errors import InputError


class Policy(nn.Module):
    """Two inputs, so that observations have names to get right."""

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Linear(64, 64)
        self.act = nn.Linear(72, 7)

    def forward(self, image: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.act(torch.cat([torch.relu(self.see(image)), state], dim=1)))


ARGS = (torch.randn(1, 64), torch.randn(1, 8))


@pytest.mark.parametrize("form", ["module", "graph module", "exported program"])
def test_compile_serve_step(form: str, tmp_path: Path) -> None:
    module = Policy().eval()
    forms = {
        "module": lambda: module,
        "graph module": lambda: fx.symbolic_trace(module),
        "exported program": lambda: torch.export.export(module, ARGS),
    }
    given = () if form == "exported program" else ARGS
    options = {"edge": "jetson-agx-orin", "cloud": "a100", "link": "100GB/s"}
    bundle = vlacut.compile(forms[form](), given, out=tmp_path / "b", **options)
    assert bundle.plan.variants[0].price.bytes_up > 0
    server = vlacut.serve(tmp_path / "b")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with vlacut.connect(tmp_path / "b", "{}:{}".format(*server.address)) as policy:
            image, state = (tensor.numpy() for tensor in ARGS)
            (action,) = policy.step({"image": image, "state": state}).values()
    finally:
        server.shutdown()
        thread.join(10)
    np.testing.assert_allclose(action, module(*ARGS).detach().numpy(), atol=1e-6)


class Remembering(nn.Module):
    """What it saw last is fed to its next control step."""

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Linear(64, 8)

    def forward(self, image: torch.Tensor, seen: torch.Tensor) -> dict[str, torch.Tensor]:
        next_seen = torch.tanh(self.see(image) + seen)
        return {"action": next_seen * 2, "next_seen": next_seen}


@pytest.mark.parametrize("state", [{"next_seen": "seen"}, "auto"], ids=["named", "auto"])
def test_state_is_said_to_plan_and_compile(state: dict[str, str] | str) -> None:
    target = {"edge": "jetson-agx-orin", "cloud": "a100", "link": "100GB/s"}
    module = Remembering().eval()
    planned = vlacut.plan(module, ARGS, **target, state=state)
    assert [spec.name for spec in planned.plan.inputs if spec.name != "seen"] == ["image"]
    assert list(planned.plan.outputs) == ["action"]
    with pytest.raises(InputError, match="it has no output next_sean; did you mean next_seen"):
        vlacut.plan(module, ARGS, **target, state={"next_sean": "seen"})


def test_a_target_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="compile needs edge, cloud and link; add cloud and link"):
        vlacut.compile(Policy(), ARGS, out=tmp_path / "b", edge="a100")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vlacut.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("option", "near"),
    [("cloud_buget", "cloud_budget"), ("pins", "pin"), ("max_error", "max_action_error")],
)
def test_a_misspelt_option_is_refused_with_the_nearest_name(
    option: str, near: str, tmp_path: Path
) -> None:
    target = {"edge": "jetson-agx-orin", "cloud": "a100", "link": "1GB/s", option: "1"}
    for function, more in ((vlacut.compile, {"out": tmp_path / "b"}), (vlacut.plan, {})):
        message = f"{function.__name__} has no option '{option}'; did you mean .*{near}"
        with pytest.raises(InputError, match=message):
            function(Policy(), ARGS, **target, **more)  # type: ignore[operator]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("function", [vlacut.plan, vlacut.compile])
def test_every_option_of_a_target_is_written_out(function: Callable[..., object]) -> None:
    """With the same default, so that an editor completes what the command line has."""
    options = signature(function).parameters
    for field in fields(Target):
        assert options[field.name].kind is Parameter.KEYWORD_ONLY
        default = "" if field.default is MISSING else field.default
        assert options[field.name].default == default, field.name
        assert f"\n        {field.name}: " in str(function.__doc__)
    of_driver = plan_program if function is vlacut.plan else compile_program
    handed = {
        "program",
        "target",
        "checkpoint",
        "conversions",
        "refusals",
    }  # the compiler makes them
    assert set(signature(of_driver).parameters) - handed <= set(options)


@pytest.mark.parametrize(("command", "more"), [(plan_command, ()), (compile_command, ("-o", "b"))])
def test_every_option_of_a_target_is_on_the_command_line(
    command: click.Command, more: tuple[str, ...]
) -> None:
    """Named and preset alike: the lists of options cannot come apart."""
    asked = {"edge": "orin", "cloud": "a100", "link": "1MB/s"}
    words = [word for name, value in asked.items() for word in (f"--{name}", value)]
    handed = command.make_context(str(command.name), ["model", *words, *more]).params
    given = {field.name: handed[field.name] for field in fields(Target)}
    assert Target(**given) == Target(**asked)


def test_plan_verify_and_simulate_say_what_the_commands_say(tmp_path: Path) -> None:
    target = {"edge": "jetson-agx-orin", "cloud": "a100", "link": "100GB/s"}
    planned = vlacut.plan(Policy().eval(), ARGS, **target, pool="portfolio:1GB")
    bundle = vlacut.compile(
        Policy().eval(), ARGS, out=tmp_path / "b", **target, pool="portfolio:1GB"
    )
    assert planned.plan.variants == bundle.plan.variants
    assert all(result.passed for result in vlacut.verify(tmp_path / "b"))
    (tmp_path / "trace.csv").write_text("time_s,mbit_per_s\n0,800\n1,80\n2,8\n3,800\n")
    names = [variant.name for variant in bundle.plan.variants]
    rows = vlacut.simulate(tmp_path / "b", tmp_path / "trace.csv", selector=[*names, "argmin"])
    assert [row.selector for row in rows] == ["clairvoyant", *names, "argmin"]
    assert all(row.mean_s >= rows[0].mean_s for row in rows)
    with pytest.raises(InputError, match="selectors know link or frames, not 'all'"):
        vlacut.simulate(tmp_path / "b", tmp_path / "trace.csv", knows="all")


def test_what_is_public_is_there_and_nothing_else_is_promised() -> None:
    public = {name: getattr(vlacut, name) for name in vlacut.__all__}
    assert sorted(vlacut.__all__) == list(vlacut.__all__)
    assert set(vlacut.__all__) <= set(dir(vlacut))
    kinds = (kind for kind in vars(errors).values() if isinstance(kind, type))
    tree = {kind.__name__ for kind in kinds if issubclass(kind, vlacut.VlacutError)}
    assert tree <= set(public)
    rooms = {module.name for module in pkgutil.iter_modules(vlacut.__path__)}
    assert not rooms & set(public)  # importing a room of that name would take its place
    typed = ast.parse(Path(vlacut.__file__).read_text())
    checked = {
        alias.name
        for block in typed.body
        if isinstance(block, ast.If)
        for item in block.body
        if isinstance(item, ast.ImportFrom)
        for alias in item.names
    }
    assert checked == set(vlacut.__all__)  # what an editor knows


def test_importing_the_library_loads_nothing_that_a_robot_lacks() -> None:
    heavy = ("torch", "onnx", "onnx_ir", "scipy", "click", "cryptography")
    for code in ("import vlacut", "import vlacut; vlacut.connect; vlacut.serve; vlacut.compile"):
        asked = f"{code}; import sys; print(*[m for m in {heavy} if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True)
        assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr
