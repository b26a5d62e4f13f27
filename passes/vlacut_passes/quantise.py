"""quantise: weights of products in 8 or 4 bits, as DequantizeLinear before the product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vlacut.errors import PassError, suggestion
from vlacut.ir.annotation import CONVERTED, ROUNDED
from vlacut.ir.program import Program
from vlacut.ir.rewriting import remove_unused
from vlacut_passes.quantising.eight_bits import TARGETS, eight_bits
from vlacut_passes.quantising.exact import without
from vlacut_passes.quantising.four_bits import FourBits
from vlacut_passes.quantising.observing import observations
from vlacut_passes.quantising.products import Products, inside_of, products_of
from vlacut_passes.quantising.rounding import GPTQ, METHODS
from vlacut_passes.quantising.weights import FLOAT, INT4

_GROUPS = (16, 32, 64, 128)


@dataclass(frozen=True)
class Quantise:
    """Puts weights of products through fewer bits, symmetrically.

    An engine runs a product in 8 bits if both operands come from a DequantizeLinear, so activations
    go through 8 bits too. A weight has a scale per output channel. An activation has one scale,
    from its largest magnitude in the example's control step, over all trips.

    In 4 bits activations stay as they are. A weight is rounded in blocks of inputs, each with a
    scale: to the nearest, or by GPTQ over observations like the example. Convolutions stay as they
    are, and so do weights whose inputs are not whole blocks.

    The program's weights need content, or all have shapes alone, for a plan.

    Attributes:
        weights: `int8`, `float8e4m3fn` or `int4`.
        smallest: products are quantised if their weight has at least so many elements.
        group: for int4, how many inputs share a scale: 16, 32, 64 or 128; fewer if it does not
            divide them.
        calibration: a file or a folder of recorded observations (`vlacut.tensor.observations`),
            which take the place of the example and of others like it, for 8 bits, too.
        method: for int4, `rtn` (to the nearest) or `gptq`, see `quantising.rounding`.
        observations: how many steps `error`, and for int4 GPTQ, are measured on: the example, and
            others like it. With `error` 8 bits have their ranges from all of them, too.
        side: `edge` or `cloud`: only products that a precision by side has there, which may be
            none; empty: all.
        activations: for int4, `float` so that no executor rounds what the weights multiply (W4A16);
            empty, and ONNX Runtime rounds it to 8 bits inside the product, by block (W4A8), which
            is several times as quick on a CPU. TensorRT never does.
        phases: names of the phases to quantise, with `;` between; all if empty.
        shared: for 8 bits, whether what products of one weight multiply has one scale in all
            phases; `pack` joins no others.
        error: the most that the action may move on them, as a share of its largest magnitude. The
            weights that move it most for their bytes stay exact until this holds. 0 for no limit.
        embeddings: for int4, whether embeddings are rounded, too: TensorRT makes floats of all of
            such a table at every run, so its back end refuses it.
        exact: weights that stay exact in any case, or products, by name or pattern, with `;`
            between.

    Raises PassError for other options, and for a model without such products, or without content
    that is needed.
    """

    name: ClassVar[str] = "quantise"
    weights: str = "int8"
    smallest: int = 4096
    group: int = 32
    method: str = GPTQ
    observations: int = 32
    calibration: str = ""
    error: float = 0.0
    exact: str = ""
    embeddings: bool = False
    phases: str = ""
    side: str = ""
    activations: str = ""
    shared: bool = False

    def run(self, program: Program) -> None:
        """See `vlacut.ir.pipeline.Pass`."""
        self._check()
        chosen, embeddings = self._chosen(program), self.embeddings and self.weights == INT4
        every = products_of(program, self.smallest, chosen, self.side, embeddings)
        found = without(program, every, self.exact)
        text = self._round(program, found) if any(found.values()) else f"nothing to {self.weights}"
        for phase in program.phases:
            remove_unused(phase.model)
        inner = inside_of(program, self.smallest, chosen)
        text = f"{text}; {inner}" if inner and not self.side else text
        ROUNDED.drop(program)  # what comes after is fitted to what this pass has made
        text = f"{self.side}: {text}" if self.side else text
        said = CONVERTED.find(program)
        CONVERTED.put(program, f"{said}; {text}" if said else text)

    def _round(self, program: Program, found: Products) -> str:
        """Quantise these; what was done."""
        if self.weights == INT4:
            as_it_is, error = self.activations == FLOAT, self.error or None
            by = self.method, self.observations, self.calibration
            four = FourBits(self.group, self.method, error, as_it_is, not self.side, by)
            seen = self._seen(program, self.observations) if _has_content(found) else []
            return four.apply(program, found, seen)
        count = self.observations if self.calibration or self.error else 1
        seen = self._seen(program, count) if _has_content(found) else []
        return eight_bits(program, found, self.weights, seen, self.shared, self.error or None)

    def _seen(self, program: Program, count: int) -> list[dict[str, np.ndarray]]:
        return observations(program, count, self.calibration)

    def _chosen(self, program: Program) -> frozenset[str]:
        """The phases to quantise."""
        known = [phase.name for phase in program.phases]
        chosen = frozenset(filter(None, self.phases.split(";"))) or frozenset(known)
        for name in sorted(chosen - set(known)):
            raise PassError(f"quantise: no phase {name!r}; {suggestion(name, known)}")
        return chosen

    def _check(self) -> None:
        known = (*TARGETS, INT4)
        if self.weights not in known:
            raise PassError(f"quantise knows {', '.join(known)}; {self.weights} is none of them")
        if self.method not in METHODS:
            raise PassError(f"quantise: method is {self.method!r}, must be {' or '.join(METHODS)}")
        if self.activations not in ("", FLOAT) or (self.activations and self.weights != INT4):
            raise PassError(
                f"quantise: activations is {self.activations!r}; leave it out, or write {FLOAT} "
                f"with weights={INT4}"
            )
        if self.group not in _GROUPS:
            raise PassError(f"quantise: group is {self.group}, must be one of {_GROUPS}")
        if self.observations < 1 or self.error < 0:
            raise PassError("quantise: observations must be at least 1, and error at least 0")


def _has_content(found: Products) -> bool:
    """Whether any weight to be rounded has content: then all must."""
    return any(one.weight.const_value is not None for listed in found.values() for one in listed)
