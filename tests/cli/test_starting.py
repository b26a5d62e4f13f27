"""Commands that build start without what libraries import and a plan does not need."""

from __future__ import annotations

import subprocess
import sys

from vlacut.cli.commands import Commands, vlacut

LATE = """
import gc, sys
from vlacut.cli.starting import start_lightly
before = gc.get_threshold()
start_lightly()
assert gc.get_threshold()[0] > before[0] and gc.get_threshold()[1:] == before[1:]
import onnx_ir, vlacut.ir.folding
assert not any(name.startswith(("sympy.", "onnx.reference")) for name in sys.modules)
from sympy.core import symbol
import sympy
assert sympy.Symbol is symbol.Symbol and "sympy.core.numbers" in sys.modules
assert str(onnx_ir.SymbolicDim("n") + 1) in ("n + 1", "SymbolicDim(n + 1)")
"""


def test_what_is_loaded_late_is_whole_when_it_is_asked_for() -> None:
    subprocess.run([sys.executable, "-c", LATE], check=True)


def test_only_commands_that_end_start_so() -> None:
    assert isinstance(vlacut, Commands)
    built = {name for name in vlacut.where if vlacut.builds(name)}
    assert {"plan", "compile", "explain"} <= built
    assert not built & {"serve", "run", "twin", "status", "no such command"}
