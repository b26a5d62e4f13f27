"""What a user calls MODEL, as a program."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from vlacut import registry
from vlacut.errors import InputError, ModelError, VlacutError
from vlacut.frontends.fixing import Fixed
from vlacut.frontends.folder import folder_program, note_folder
from vlacut.frontends.onnx import Shapes, note_file, onnx_program
from vlacut.ir.original import ORIGINAL, Face, Original, face_of
from vlacut.ir.program import Program

KINDS = (
    "an .onnx file, a .pt2 file, a folder with a program.toml, file.py:function, lerobot:DIR, "
    "openpi:DIR, or a model of the zoo (NAME or NAME:PRESET)"
)
LEROBOT, OPENPI = "lerobot:", "openpi:"
CHECKPOINTS = (LEROBOT, OPENPI)
_FUNCTION = re.compile(r"(.+\.py):([A-Za-z_]\w*)")
DEFAULT_PRESET = "full"
_SHAPES_ALONE = "it was traced on shapes alone"


@dataclass(frozen=True)
class OfCheckpoint:
    """What may be said of a MODEL that is lerobot:DIR or openpi:DIR.

    Attributes:
        task: the prompt; empty for a policy that reads none, or takes its tokens as inputs.
        original: a Python that has LeRobot, whose own policy the model check runs; empty for none.
        config: openpi's configuration, by its name or a .toml file.
    """

    task: str = ""
    original: str = ""
    config: str = ""


UNSAID = OfCheckpoint()


def load_program(
    model: str,
    shapes: Shapes | None = None,
    fixed: Fixed | None = None,
    of_checkpoint: OfCheckpoint = UNSAID,
) -> Program:
    """The program that MODEL names: a file, a folder, a function, or a model of the zoo.

    A function of a .py file is run: it returns a Program, or `(module, args)`, or
    `(module, args, kwargs)`, or that with a mapping from outputs to inputs that are state. Nothing
    else runs code of the user's. `shapes` binds the dynamic dimensions of files and folders, and
    what of an ONNX file's inputs is `fixed` becomes a constant.

    Raises ModelError saying what is wrong with it, or what MODEL can be.
    """
    if model.startswith(LEROBOT):
        return _lerobot(Path(model.removeprefix(LEROBOT)), shapes, fixed, of_checkpoint)
    if model.startswith(OPENPI):
        return _openpi(Path(model.removeprefix(OPENPI)), shapes, fixed, of_checkpoint)
    if of_checkpoint != UNSAID:
        raise ModelError(
            f"{model}: --task, --original and --config are of checkpoints: lerobot:DIR, openpi:DIR"
        )
    path = Path(model)
    if path.suffix == ".onnx":
        return onnx_program(path, shapes, fixed)
    if path.is_dir():
        return folder_program(path, shapes, fixed)
    if fixed:
        raise ModelError(f"{model}: --fix is for inputs of ONNX files; fix it in the module")
    if path.suffix == ".pt2":
        return _pt2(path, shapes)
    function = _FUNCTION.fullmatch(model)
    if function is None and path.suffix == ".py":
        raise ModelError(f"{model}: which function of it? write {model}:FUNCTION")
    if shapes:
        raise ModelError(f"{model}: its shapes are fixed; --shape binds those of files and folders")
    return trace(called(model), model) if function else _zoo(model)


def note_original(
    program: Program,
    model: str,
    made: Traceable | None = None,
    fixed: Fixed | None = None,
) -> None:
    """Let the model check run what MODEL names, for a program of it that was not traced just now.

    `made` is what the function of MODEL returned, where it is one; `fixed` as in `load_program`.
    """
    path = Path(model)
    if made is not None:
        from vlacut.frontends.torch import note_module

        note_module(program, made.module, made.args, made.kwargs)
    elif path.suffix == ".pt2":
        ORIGINAL.put(program, partial(_pt2_original, face_of(program), path))
    elif path.suffix == ".onnx":
        note_file(program, path, fixed)
    elif path.is_dir():
        note_folder(program, path, fixed)
    else:
        ORIGINAL.put(program, partial(_zoo_original, model, _is_whole(program)))


def _is_whole(program: Program) -> bool:
    graphs = (phase.model.graph for phase in program.phases)
    return all(one.const_value is not None for g in graphs for one in g.initializers.values())


def _zoo_original(model: str, whole: bool) -> Original:
    """The module of the zoo, traced anew for it, where it has weights."""
    if not whole:
        return Original(f"the model {model}", why_not=_SHAPES_ALONE)
    find = ORIGINAL.find(_zoo(model))
    return find() if find else Original(f"the model {model}", why_not="it has no module")


def _pt2_original(face: Face, path: Path) -> Original:
    from vlacut.frontends.torch_files import pt2_original

    return pt2_original(face, path)


def is_function(model: str) -> bool:
    """Whether MODEL is file.py:function."""
    return _FUNCTION.fullmatch(model) is not None


def _lerobot(
    folder: Path, shapes: Shapes | None, fixed: Fixed | None, said: OfCheckpoint
) -> Program:
    from vlacut.frontends.lerobot.original import LerobotProcess, note_lerobot
    from vlacut.frontends.lerobot.program import lerobot_program

    if fixed:
        raise ModelError(f"{folder}: --fix is for inputs of ONNX files; --task fixes a prompt")
    if said.config:
        raise ModelError(f"{folder}: --config is of openpi:DIR; a folder of LeRobot's says all")
    process = LerobotProcess(said.original, folder, said.task) if said.original else None
    transformers = process.transformers if process else ""
    program = lerobot_program(folder, shapes, said.task, transformers)
    if process:
        note_lerobot(program, process)
    return program


def _openpi(
    folder: Path, shapes: Shapes | None, fixed: Fixed | None, said: OfCheckpoint
) -> Program:
    from vlacut.frontends.openpi.program import openpi_program

    if fixed:
        raise ModelError(f"{folder}: --fix is for inputs of ONNX files; --task fixes a prompt")
    if said.original:
        raise ModelError(f"{folder}: --original is of lerobot:DIR")
    return openpi_program(folder, said.config, shapes, said.task)


def _pt2(path: Path, shapes: Shapes | None) -> Program:
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    from vlacut.frontends.torch_files import load_pt2

    return load_pt2(path, shapes=shapes)


def _zoo(model: str) -> Program:
    name, _, preset = model.partition(":")
    try:
        build = registry.load("models", name)
    except InputError as error:
        what = "a file of no kind known" if Path(model).is_file() else "no such file"
        raise ModelError(f"{model}: {what}, and {error}; MODEL is {KINDS}") from error
    presets = tuple(getattr(build, "presets", ()))
    preset = preset or DEFAULT_PRESET
    if presets and preset not in presets:
        raise ModelError(
            f"{model}: {name} has no preset {preset}; its presets: {', '.join(presets)}"
        )
    if preset != DEFAULT_PRESET:  # small ones are traced before another process has started
        made: Program = build(preset)
        return made
    from vlacut.frontends.beside import traced_beside

    with traced_beside(model):
        whole: Program = build(preset)
    return whole


def called(model: str) -> Program | Traceable:
    """What the function returns that MODEL, file.py:function, names.

    Raises ModelError with the line of the user's file for whatever goes wrong in it, and for what
    can be no model.
    """
    match = _FUNCTION.fullmatch(model)
    assert match is not None
    file, name = Path(match[1]), match[2]
    if not file.is_file():
        raise ModelError(f"{file}: no such file")
    with _users_code(file):
        module = _imported(file)
        function: Callable[[], Any] | None = getattr(module, name, None)
        if not callable(function):
            raise ModelError(f"{file}: has no function {name}")
        made = function()
    return made if isinstance(made, Program) else _traceable(made, model)


@dataclass(frozen=True)
class Traceable:
    """A module with its example inputs.

    Attributes:
        module: untraced, or what `program_from_module` takes besides.
        args: positional ones.
        kwargs: those by keyword.
        state: inputs of the next control step by the output they come from.
    """

    module: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    state: Mapping[str, str] = field(default_factory=dict)


def trace(made: Program | Traceable, model: str) -> Program:
    """What a function of the user's returned, as a program named after it.

    Raises ModelError as `program_from_module` does.
    """
    if isinstance(made, Program):
        return made
    from vlacut.frontends.torch import program_from_module

    name = model.rpartition(":")[2]
    return program_from_module(made.module, made.args, made.kwargs, name=name, state=made.state)


def _traceable(made: Any, where: str) -> Traceable:
    items = made if isinstance(made, tuple) else (made,)
    fits = len(items) in (2, 3, 4) and isinstance(items[1], tuple)
    fits = fits and all(isinstance(one, Mapping) for one in items[2:])
    if not fits:
        raise ModelError(
            f"{where} returned {type(made).__name__}; it must return a Program, (module, args), "
            f"(module, args, kwargs) or (module, args, kwargs, state)"
        )
    kwargs, state = [*items[2:], {}, {}][:2]
    return Traceable(items[0], items[1], kwargs, state)


def _imported(file: Path) -> ModuleType:
    """The file as a module of its own; its folder is where its imports are looked for."""
    name = f"vlacut_user_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # for it ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


@contextmanager
def _users_code(file: Path) -> Iterator[None]:
    """Turn what the user's code raises into a ModelError with file and line."""
    folder = str(file.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    except VlacutError:
        raise
    except (Exception, SystemExit) as error:  # a script's sys.exit must not end ours unsaid
        raise ModelError(f"{_place(error, file)}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)


def _place(error: BaseException, file: Path) -> str:
    """`file:line` of the innermost frame in the user's file."""
    # The loader of a relative path makes its code's file name absolute.
    names = {str(file), os.path.abspath(file)}
    if isinstance(error, SyntaxError) and error.filename in names:
        return f"{file}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename in names]
    return f"{file}:{lines[-1]}" if lines else str(file)
