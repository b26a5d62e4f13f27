"""torch.export of a module on example inputs."""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from vlacut.errors import ModelError
from vlacut.frontends.cures import with_cure
from vlacut.frontends.exported.saying import quiet, reason


def export(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], where: str
) -> ExportedProgram:
    """Trace a module on example inputs.

    Raises ModelError, starting with `where`, with torch's reason.
    """
    said = io.StringIO()  # on an error, by torch: the graph so far
    before = _generators()
    try:
        with quiet(), torch.no_grad(), redirect_stderr(said):
            exported = torch.export.export(module, args, dict(kwargs), strict=False)
    except Exception as error:  # the user's forward may raise anything
        raise ModelError(with_cure(f"{where}: cannot be traced: {reason(error)}")) from error
    sys.stderr.write(said.getvalue())  # otherwise it is the user's
    for name, state in _generators().items():
        if state != before[name]:
            raise ModelError(
                f"{where}: draws from {name} while it is traced, and the numbers would stay the "
                f"same for ever; draw with torch.randn or torch.rand, or let noise be an input"
            )
    return exported


def _generators() -> dict[str, str]:
    """The states of the generators that code draws from without saying so."""
    return {
        "numpy.random": repr(np.random.get_state()),
        "Python's random": repr(random.getstate()),
        "torch's generator, outside of the trace,": repr(torch.get_rng_state().numpy().tobytes()),
    }
