"""Programs by way of the trace cache: what MODEL names is traced once.

A model of the zoo is found by its name, preset and module's place. It is stale if the source of a
module it uses changed, or a package that took part. A file or a folder is found by its path and the
shapes bound, and is stale if its content changed. The function of a file.py:function is called
every time; only the trace of the module that it makes is kept. That is stale if the module changed,
or a source that is in no package. The weights are those that the function makes.
"""

from __future__ import annotations

import importlib.util
import platform
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

from vlacut import registry
from vlacut.compiler.model_check.kept import KEPT_CHECKS, KeptChecks
from vlacut.compiler.simplified import SIMPLIFIED, Simplified
from vlacut.compiler.trace_cache import Say, TraceCache, key_of_request
from vlacut.compiler.trace_sources import Sources, file_digest, file_size
from vlacut.errors import InputError
from vlacut.frontends.fixing import Fixed
from vlacut.frontends.folder_description import program_files
from vlacut.frontends.load import (
    CHECKPOINTS,
    DEFAULT_PRESET,
    UNSAID,
    OfCheckpoint,
    called,
    is_function,
    load_program,
    note_original,
    trace,
)
from vlacut.frontends.onnx import Shapes
from vlacut.ir.program import Program
from vlacut.ir.storage import outside_files

# Of our own modules, those that have a say in what a trace is.
_OURS = ("vlacut.frontends", "vlacut.ir", "vlacut.tensor")
_STANDARD = Path(sysconfig.get_path("stdlib"))
_PACKAGES = ("site-packages", "dist-packages")


def traced_program(
    model: str,
    shapes: Shapes | None = None,
    cache: TraceCache | None = None,
    say: Say = print,
    fixed: Fixed | None = None,
    of_checkpoint: OfCheckpoint = UNSAID,
    simplified: bool = False,
) -> Program:
    """The program that MODEL names, as `load_program` makes it, or as the cache has it.

    A checkpoint of LeRobot's or openpi's is traced every time. `say` is told, in a line, why an
    entry is of no use. With `simplified`, for a caller who runs `simplify` first and wants no more
    than the program, what comes from the cache may be simplified: see `compiler.simplified`.
    Raises ModelError as `load_program` does.
    """
    bound = {name: list(shape) for name, shape in sorted((shapes or {}).items())}
    if cache is None or model.startswith(CHECKPOINTS) or of_checkpoint != UNSAID:
        return load_program(model, shapes, fixed, of_checkpoint)
    if is_function(model):
        if shapes or fixed:
            return load_program(model, shapes, fixed)  # which refuses them
        return _of_function(model, cache, say, simplified)
    files = _files(model)
    where = str(files[0].resolve()) if files else _zoo_place(model)
    if not where:
        return load_program(model, shapes, fixed)  # which says what MODEL can be
    settings = sorted((fixed or {}).items())
    key = key_of_request(_named(model), where, bound, settings, platform.python_version())

    def find(say: Say) -> Program | None:
        found = cache.find(key, say, simplified=simplified)
        if found is not None:
            note_original(found, model, fixed=fixed)
            _keep_simplified(found, cache, key, say, simplified)
        return found

    def make() -> Program:
        digests = {str(path.resolve()): file_digest(path) for path in files}
        made = load_program(model, shapes, fixed)
        cache.keep(key, _named(model), made, _sources(made, digests), say)
        return made

    found = cache.once(key, find, make, say)
    if not files:  # a file is at hand when it is asked for, a module of the zoo is not
        KEPT_CHECKS.put(found, KeptChecks(cache.folder / key, say))
    return found


def _of_function(model: str, cache: TraceCache, say: Say, simplified: bool) -> Program:
    made = called(model)
    if isinstance(made, Program):
        return made
    from vlacut.frontends.signature import held_weights, signature

    digest, weights = signature(made), held_weights(made.module)
    if not digest:
        return trace(made, model)
    file, _, name = model.rpartition(":")
    key = key_of_request(name, str(Path(file).resolve()), platform.python_version())

    def find(say: Say) -> Program | None:
        found = cache.find(key, say, weights, digest, simplified)
        if found is not None:
            note_original(found, model, made)
            _keep_simplified(found, cache, key, say, simplified, frozenset(weights))
        return found

    def make() -> Program:
        found = trace(made, model)
        cache.keep(key, model, found, _sources(found, {}, digest), say, frozenset(weights))
        return found

    return cache.once(key, find, make, say)


def _keep_simplified(
    found: Program,
    cache: TraceCache,
    key: str,
    say: Say,
    wanted: bool,
    held: frozenset[str] = frozenset(),
) -> None:
    """Have a program that the cache gave kept once more when it is simplified, if that is new."""

    def keep(program: Program) -> None:
        cache.keep_simplified(key, program, _sources(program, {}), held, say)

    if wanted and SIMPLIFIED.find(found) is None:
        SIMPLIFIED.put(found, Simplified(keep))


def _named(model: str) -> str:
    """MODEL with the preset that its name alone means."""
    plain = Path(model).suffix or Path(model).is_dir() or ":" in model
    return model if plain else f"{model}:{DEFAULT_PRESET}"


def _files(model: str) -> list[Path]:
    """The files that are read for a MODEL that is a file or a folder."""
    path = Path(model)
    if path.is_dir():
        return program_files(path)
    return [path] if path.suffix in (".onnx", ".pt2") and path.is_file() else []


def _zoo_place(model: str) -> str:
    """The file of a zoo model's module, found without importing it; empty if there is none."""
    try:
        module = registry.module_of("models", model.partition(":")[0])
        spec = importlib.util.find_spec(module)
    except (InputError, ImportError):
        return ""
    return str(spec.origin or "") if spec else ""


def _sources(program: Program, files: dict[str, str], module: str = "") -> Sources:
    """What a program was made of that was traced in this process just now."""
    outside = {str(path.resolve()): file_size(path) for path in outside_files(program)}
    local = {str(path): file_digest(path) for path in _local_modules()}
    sizes = {path: size for path, size in outside.items() if path not in files}
    return Sources({**local, **files}, sizes, sorted(_installed()), module)


def _local_modules() -> Iterator[Path]:
    """Files of loaded modules that no package's version speaks for, sorted."""
    found = set()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        ours = name == "vlacut" or name.startswith("vlacut.")
        if not file or name == "__main__" or (ours and not name.startswith(_OURS)):
            continue
        path = Path(file)
        if path.suffix == ".py" and not _is_installed(path) and path.is_file():
            found.add(path.resolve())
    yield from sorted(found)


def _is_installed(path: Path) -> bool:
    return _STANDARD in path.parents or any(part in _PACKAGES for part in path.parts)


def _installed() -> set[str]:
    """The `.dist-info` folders of the packages that are loaded."""
    loaded = {name.partition(".")[0] for name in list(sys.modules)}
    packages = {
        package
        for top, owners in packages_distributions().items()
        if top in loaded
        for package in owners
    }
    folders = (getattr(distribution(package), "_path", None) for package in packages)
    return {str(folder) for folder in folders if folder and Path(str(folder)).is_dir()}
