"""A .pt2 file from anywhere is a program of plain tensors, or is refused; it never runs code."""

from __future__ import annotations

import io
import json
import os
import random
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vlacut.errors import ModelError
from vlacut.frontends.torch_files import load_pt2

MODEL, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"
CONSTANTS, EXAMPLES = "data/constants/model_constants_config.json", "data/sample_inputs/model.pt"
FORBIDDEN = ("os.system", "subprocess.Popen", "pickle.find_class", "socket.connect", "os.exec")


class Policy(nn.Module):
    """Parameters, a buffer, a constant, a submodule without gradients, a keyword, a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.register_buffer("scale", torch.full((6,), 0.5, dtype=torch.bfloat16))
        self.shift = torch.arange(6.0)

    def forward(self, x: torch.Tensor, more: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            hidden = self.linear(x)
        first, _ = torch.split(hidden, [2, 4], 1)
        size = x.shape[0] * 2
        flat = x.reshape(size, -1).sum(1) + more["k"].sum()
        return {
            "flat": flat,
            "same": nn.functional.gelu(first),
            "moved": hidden * self.scale + self.shift,
        }


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "policy.pt2"
    torch.manual_seed(0)
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(
        Policy().eval(),
        (torch.ones(4, 6),),
        {"more": {"k": torch.ones(3)}},
        dynamic_shapes={"x": {0: batch}, "more": {"k": None}},
        strict=False,
    )
    torch.export.save(exported, path)
    return path


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def write(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def changed(saved: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The archive with its members as `change` leaves them; those of JSON parsed."""
    files: dict[str, Any] = {
        name.partition("/")[2]: json.loads(data) if name.endswith(".json") else data
        for name, data in members(saved).items()
    }
    change(files)
    written = {
        f"policy/{name}": data if isinstance(data, bytes) else json.dumps(data).encode()
        for name, data in files.items()
    }
    return write(folder / "policy.pt2", written)


class Canary:
    """Code that leaves a trace when it runs."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ran"
        self.code = f"open({str(self.path)!r}, 'w')"

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    return Canary(tmp_path)


def pickled(value: Any) -> bytes:
    room = io.BytesIO()
    torch.save(value, room)
    return room.getvalue()


def graph(files: dict[str, Any]) -> Any:
    return files[MODEL]["graph_module"]["graph"]


def signature(files: dict[str, Any]) -> Any:
    return files[MODEL]["graph_module"]["module_call_graph"][0]["signature"]


def renamed(files: dict[str, Any], old: str, new: str) -> None:
    text = json.dumps(files[MODEL])
    assert f'"name": "{old}"' in text
    files[MODEL] = json.loads(text.replace(f'"name": "{old}"', f'"name": {json.dumps(new)}'))


def rekeyed(files: dict[str, Any], old: str, new: str) -> None:
    renamed(files, old, new)
    values = graph(files)["tensor_values"]
    values[new] = values.pop(old)


def constant_that_is_pickled(files: dict[str, Any], canary: Canary) -> None:
    (entry,) = files[CONSTANTS]["config"].values()
    for prefix in ("custom_obj_0", "opaque_obj_0"):
        files[f"data/constants/{prefix}"] = pickled(canary)
    entry["path_name"] = "opaque_obj_0"


def constant_that_says_so(files: dict[str, Any], canary: Canary) -> None:
    (entry,) = files[CONSTANTS]["config"].values()
    entry["use_pickle"] = True
    files["data/constants/tensor_0"] = pickled(canary)


def guards(files: dict[str, Any], canary: Canary) -> None:
    files[MODEL]["guards_code"] = [f"{canary.code} is not None"]


def second_model(files: dict[str, Any], canary: Canary) -> None:
    other = json.loads(json.dumps(files[MODEL]))
    for values in other["graph_module"]["graph"]["tensor_values"].values():
        values["sizes"] = [{"as_expr": {"expr_str": canary.code, "hint": {"as_int": 4}}}]
    files["models/other.json"] = other
    files["data/weights/other_weights_config.json"] = files[WEIGHTS]
    files["data/constants/other_constants_config.json"] = files[CONSTANTS]
    files["data/sample_inputs/other.pt"] = files[EXAMPLES]


def expression(files: dict[str, Any], canary: Canary) -> None:
    graph(files)["tensor_values"]["x"]["sizes"][1] = {
        "as_expr": {"expr_str": canary.code, "hint": {"as_int": 6}}
    }


def name_of_an_input(files: dict[str, Any], canary: Canary) -> None:
    rekeyed(files, "x", f"x={canary.code}")


def name_of_an_argument(files: dict[str, Any], canary: Canary) -> None:
    signature(files)["forward_arg_names"] = [f"x={canary.code}", "more"]


def name_of_a_keyword(files: dict[str, Any], canary: Canary) -> None:
    signature(files)["forward_arg_names"] = None
    text = signature(files)["in_spec"]
    bad = json.dumps(json.dumps([f"more={canary.code}"]))
    signature(files)["in_spec"] = text.replace(json.dumps(json.dumps(["more"])), bad)
    assert bad in signature(files)["in_spec"]


def name_of_a_weight(files: dict[str, Any], canary: Canary) -> None:
    bad = f'a-"+str({canary.code})+"'
    text = json.dumps([files[MODEL], files[WEIGHTS]])
    text = text.replace('"linear.weight"', json.dumps(bad))
    files[MODEL], files[WEIGHTS] = json.loads(text)


def module_that_a_tree_imports(files: dict[str, Any], canary: Canary) -> None:
    module = canary.path.parent / "imported_by_a_tree.py"
    module.write_text(f"{canary.code}\nclass Made(dict): pass\n")
    sys.path.insert(0, str(module.parent))
    context = {
        "default_factory_module": module.stem,
        "default_factory_name": "Made",
        "dict_context": ["k"],
    }
    old = json.dumps({"type": "builtins.dict", "context": json.dumps(["k"])})[1:-1]
    new = json.dumps({"type": "collections.defaultdict", "context": context})[1:-1]
    text = signature(files)["in_spec"]
    assert old in text
    signature(files)["in_spec"] = text.replace(old, new)


def operator_that_opens_a_file(files: dict[str, Any], canary: Canary) -> None:
    node = graph(files)["nodes"][-1]
    node["target"] = "torch.ops.aten.from_file.default"
    node["inputs"] = [
        {"name": "filename", "arg": {"as_string": str(canary.path)}, "kind": 1},
        {"name": "shared", "arg": {"as_bool": True}, "kind": 1},
        {"name": "size", "arg": {"as_int": 24}, "kind": 1},
    ]


def function_of_torch(files: dict[str, Any], canary: Canary) -> None:
    graph(files)["nodes"][-1]["target"] = "torch.hub.load"


def function_as_an_argument(files: dict[str, Any], canary: Canary) -> None:
    graph(files)["nodes"][-1]["inputs"][0]["arg"] = {"as_operator": "torch.hub.load"}


def examples_that_are_pickled(files: dict[str, Any], canary: Canary) -> None:
    files[EXAMPLES] = pickled(((canary,), {}))


def weights_of_before(files: dict[str, Any], canary: Canary) -> None:
    files["data/weights/model.pt"] = pickled({"linear.weight": canary})


def machine_code(files: dict[str, Any], canary: Canary) -> None:
    files["data/aotinductor/model/wrapper.so"] = b"\x7fELF"


HOSTILE = (
    *(constant_that_is_pickled, constant_that_says_so, guards, second_model, expression),
    *(name_of_an_input, name_of_an_argument, name_of_a_keyword, name_of_a_weight),
    *(module_that_a_tree_imports, operator_that_opens_a_file, function_of_torch),
    *(function_as_an_argument, examples_that_are_pickled, weights_of_before, machine_code),
)


@pytest.fixture
def imports_as_before() -> Iterator[None]:
    before = list(sys.path)
    yield
    sys.path[:] = before


@pytest.mark.usefixtures("imports_as_before")
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda function: function.__name__)
def test_a_file_that_would_run_code_is_refused(
    saved: Path, tmp_path: Path, canary: Canary, hostile: Callable[[dict[str, Any], Canary], None]
) -> None:
    bad = changed(saved, tmp_path, lambda files: hostile(files, canary))
    with pytest.raises(ModelError, match=r"policy\.pt2: .*(may run code|known|not torch)"):
        load_pt2(bad, shapes={"x": (4, 6)})
    assert not canary.path.exists()


def test_an_unchanged_archive_is_read(saved: Path, tmp_path: Path) -> None:
    program = load_pt2(changed(saved, tmp_path, lambda files: None), shapes={"x": (4, 6)})
    assert [spec.name for spec in program.inputs] == ["x", "k"]


def test_torch_opens_nothing_of_a_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("torch opened it")

    doors = ("torch.load", "torch.export.load", "torch.jit.load", "torch._C.PyTorchFileReader")
    for door in doors:
        monkeypatch.setattr(door, opened)
    program = load_pt2(saved, shapes={"x": (4, 6)})
    assert [spec.name for spec in program.inputs] == ["x", "k"]


def shorter_weight(files: dict[str, Any]) -> None:
    files["data/weights/weight_0"] = files["data/weights/weight_0"][:-4]


def empty_weight(files: dict[str, Any]) -> None:
    files["data/weights/weight_0"] = b""  # torch reads zeros


def weight_beyond_its_bytes(files: dict[str, Any]) -> None:
    meta = files[WEIGHTS]["config"]["linear.weight"]["tensor_meta"]
    meta["strides"] = [{"as_int": 1 << 40}, {"as_int": 1}]


def missing_weight(files: dict[str, Any]) -> None:
    del files["data/weights/weight_0"]


def deep(files: dict[str, Any]) -> None:
    files[MODEL] = b"[" * 100_000


def deep_tree(files: dict[str, Any]) -> None:
    signature(files)["out_spec"] = "[1, " + '{"children_spec": [' * 50_000


def long_power(files: dict[str, Any]) -> None:
    expr = "Pow(Integer(9), Pow(Integer(9), Integer(999999999)))"
    graph(files)["tensor_values"]["x"]["sizes"][1] = {"as_expr": {"expr_str": expr}}


def unknown_field(files: dict[str, Any]) -> None:
    files[MODEL]["startup_code"] = "1"


DAMAGED = (
    *(shorter_weight, empty_weight, weight_beyond_its_bytes, missing_weight),
    *(deep, deep_tree, long_power, unknown_field),
)


@pytest.mark.parametrize("damage", DAMAGED, ids=lambda function: function.__name__)
def test_a_damaged_file_is_refused_in_one_line(
    saved: Path, tmp_path: Path, damage: Callable[[dict[str, Any]], None]
) -> None:
    with pytest.raises(ModelError) as caught:
        load_pt2(changed(saved, tmp_path, damage), shapes={"x": (4, 6)})
    text = str(caught.value)
    assert "policy.pt2" in text
    assert "\n" not in text
    assert len(text) < 600


def test_a_member_that_two_readers_would_read_differently_is_refused(
    saved: Path, tmp_path: Path
) -> None:
    files = members(saved)
    with zipfile.ZipFile(tmp_path / "twice.pt2", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(f"policy/{MODEL}", b"{}")
    with pytest.raises(ModelError, match="not of torch's"):
        load_pt2(tmp_path / "twice.pt2")
    data = bytearray(saved.read_bytes())
    at = data.index(f"policy/{MODEL}".encode())  # in the member's own header: the directory is last
    data[at : at + 6] = b"Policy"
    (tmp_path / "apart.pt2").write_bytes(data)
    with pytest.raises(ModelError, match="damaged"):
        load_pt2(tmp_path / "apart.pt2")
    with zipfile.ZipFile(tmp_path / "packed.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, held in files.items():
            archive.writestr(name, held)
    with pytest.raises(ModelError, match="damaged"):
        load_pt2(tmp_path / "packed.pt2")


class Watch:
    """Hears what Python does while it is on; a hook cannot be taken away again."""

    def __init__(self) -> None:
        self.on = False
        self.heard: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event.startswith(FORBIDDEN):
            self.heard.append(event)


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every container of a tree of JSON with every key in it."""
    found, stack = [], [tree]
    while stack:
        item = stack.pop()
        keys = item.keys() if isinstance(item, dict) else range(len(item))
        for key in list(keys):
            found.append((item, key))
            if isinstance(item[key], dict | list):
                stack.append(item[key])
    return found


def mutate(files: dict[str, Any], draw: random.Random, code: str) -> None:
    """Change an archive somewhere: values, keys, members, bytes."""
    values: list[Any] = [
        *(None, True, -1, 0, 7, 2**63, 1e300, "", [], {}, "x", "as_int", "weight_0"),
        *(code, f"x={code}", f"torch.ops.aten.relu.default({code})", f"Symbol('s0', x={code})"),
        *({"as_string": code}, {"as_expr": {"expr_str": code}}, {"as_operator": "torch.load"}),
        *("opaque_obj_0", "../weights/weight_0", "torch.load", "_operator.attrgetter", "__class__"),
    ]
    kind = draw.randrange(10)
    name = draw.choice([MODEL, MODEL, MODEL, WEIGHTS, CONSTANTS])
    if kind < 7:
        holder, key = draw.choice(places(files[name]))
        found = draw.sample(places(files[name]), 3)
        others = [deepcopy(item[place]) for item, place in found]  # not around what holds it
        if isinstance(holder, dict) and kind == 6:
            holder[draw.choice([code, f"a={code}", "guards_code", "as_graph"])] = holder.pop(key)
        elif kind == 5:
            del holder[key]
        else:
            holder[key] = draw.choice(values + others)
    elif kind == 7:
        files[draw.choice(["models/b.json", "data/constants/opaque_obj_0", "x"])] = b"{}"
    else:
        name = draw.choice([EXAMPLES, "data/weights/weight_0", "archive_format", EXAMPLES])
        data = bytearray(files[name])
        for _ in range(draw.randrange(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        files[name] = bytes(data)


def fuzz(saved: Path, folder: Path, seconds: float, seed: int, least: int) -> int:
    """Read altered archives for so long, and at least so many; how many were refused."""
    draw, canary, watch = random.Random(seed), Canary(folder), Watch()
    end, tried, refused, lines = time.monotonic() + seconds, 0, 0, 0
    while time.monotonic() < end or tried < least:
        tried += 1
        bad = changed(
            saved,
            folder,
            lambda files: (
                [mutate(files, draw, canary.code) for _ in range(draw.choice((1, 1, 3)))] and None
            ),
        )
        watch.on = True
        try:
            load_pt2(bad, shapes={"x": (4, 6)})
        except ModelError as error:
            lines += str(error).count("\n")
            refused += 1
        finally:
            watch.on = False
        assert not watch.heard
        assert not canary.path.exists()
    assert not lines
    return refused


def test_altered_archives_never_run_code(saved: Path, tmp_path: Path) -> None:
    assert fuzz(saved, tmp_path, 5.0, seed=1, least=10) > 5


@pytest.mark.slow
def test_altered_archives_never_run_code_for_a_minute(saved: Path, tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"the seed is {seed}")
    assert fuzz(saved, tmp_path, 60.0, seed, least=200) > 100
