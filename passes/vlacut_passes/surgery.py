"""surgery: hands phases to a function of the user's own that takes and returns a `gs.Graph`.

The compiler runs it on parts, too, each as a program of one phase: `vlacut.compiler.part_surgery`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import onnx

from vlacut.errors import PassError
from vlacut.ir.program import Phase, Program
from vlacut_passes.operating.placing import put
from vlacut_passes.operating.weights import Weights, name_apart


@dataclass(frozen=True)
class Surgery:
    """Lets `function` of `file` rewrite a phase with onnx-graphsurgeon.

    Weights go by reference: none is loaded unless the function asks for its `values`, and what it
    leaves alone is the weight that it was. Operators that keep their names keep their places in the
    model. What the phase takes and makes must stay, but for outputs marked after its own; what the
    graph is, the verifier says. A weight that is changed where another phase has it, too, gets a
    name of its own.

    Attributes:
        file: Python that is run; that is what it is for.
        function: of it; takes a `gs.Graph`, returns one, or None for the one it was given.
        phase: the only one to hand over; all of them one after the other if empty.
        part: the name of the part that the program is. Its outputs are all that may be made, and
            what is changed of its weights gets names of its own, for others may share them.

    Raises PassError where the file, the function or what it returns is at fault.
    """

    name: ClassVar[str] = "surgery"
    file: str = ""
    function: str = ""
    phase: str = ""
    part: str = ""

    def run(self, program: Program) -> None:
        """See `vlacut.ir.pipeline.Pass`."""
        function = self._load()
        chosen = [one for one in program.phases if self.phase in ("", one.name)]
        if not chosen:
            names = ", ".join(one.name for one in program.phases)
            raise PassError(f"surgery: there is no phase {self.phase!r}; there are {names}")
        changed = [(phase, self._operate(phase, function)) for phase in chosen]
        for phase, weights in changed:
            name_apart(phase, weights, program, self.part)

    def _load(self) -> Callable[[Any], Any]:
        path = Path(self.file)
        if not path.is_file() or not self.function:
            raise PassError(f"surgery: {self.file or 'no file'}: write FILE.py:FUNCTION")
        spec = importlib.util.spec_from_file_location(f"vlacut_surgery_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise PassError(f"surgery: {path}: is no Python file")
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:  # a file of the user's own may raise anything
            raise PassError(f"surgery: {path}: {type(error).__name__}: {error}") from error
        found = getattr(module, self.function, None)
        if not callable(found):
            raise PassError(f"surgery: {path}: there is no function {self.function!r} in it")
        made: Callable[[Any], Any] = found
        return made

    def _operate(self, phase: Phase, function: Callable[[Any], Any]) -> set[str]:
        """Rewrite a phase; the names of weights that are not what they were."""
        what = f"part {self.part}" if self.part else f"phase {phase.name}"
        where = f"surgery: {self.file}:{self.function} on {what}"
        gs = _graphsurgeon()
        weights = Weights(phase.model)
        weights.proto.graph.name = self.part or phase.name
        graph = gs.import_onnx(weights.proto)
        weights.attach(gs, graph)
        try:
            made = function(graph)
            made = graph if made is None else made
            if not isinstance(made, gs.Graph):
                raise PassError(f"{where}: returned {type(made).__name__}, must return a gs.Graph")
            proto = gs.export_onnx(made.toposort(recurse_functions=False))
        except PassError:
            raise
        except Exception as error:  # a function of the user's own may raise anything
            said = str(error).strip().partition("\n")[0]
            raise PassError(f"{where}: {type(error).__name__}: {said}") from error
        return put(phase, _with_shapes(proto, where), weights, where, bool(self.part))


def _graphsurgeon() -> Any:
    try:
        import onnx_graphsurgeon
        from onnx_graphsurgeon.logger import G_LOGGER
    except ImportError as error:
        raise PassError(f"surgery needs {error.name}: pip install 'vlacut[surgery]'") from error
    G_LOGGER.severity = G_LOGGER.ERROR  # it prints, where `--json` prints an object
    return onnx_graphsurgeon


def _with_shapes(proto: onnx.ModelProto, where: str) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(proto, strict_mode=False, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        said = " ".join(str(error).split())
        raise PassError(f"{where}: left a graph that is no ONNX: {said}") from error
