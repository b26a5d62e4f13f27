"""Four bits: weights in blocks, as DequantizeLinear over int4; activations stay as they are.

An embedding is rounded to the nearest: no observation says more of its rows than which are read. If
a product reads its table, too, both are rounded as the product is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from vlacut.errors import PassError
from vlacut.ir.annotation import ROUNDED
from vlacut.ir.program import Program
from vlacut_passes.quantising.exact import NOT_MEASURED, Weights, kept_exact, replaced
from vlacut_passes.quantising.observing import Observation, Observed
from vlacut_passes.quantising.products import Product, Products
from vlacut_passes.quantising.rounding import (
    GPTQ,
    Array,
    Grams,
    Rounded,
    block_scales,
    gptq,
    to_nearest,
)
from vlacut_passes.quantising.shared import Key, Shared, key_of
from vlacut_passes.quantising.weights import INT4, Coded, element
from vlacut_passes.quantising.writing import in_codes, put_codes, raise_opset

_LEAST_GROUP = 16  # that ONNX Runtime's products of 4 bits take

_HELD = 4  # one observation in so many says which way of rounding errs least


@dataclass(frozen=True)
class FourBits:
    """How weights are put into 4 bits.

    Attributes:
        group: inputs of a product that share a scale; half of them, or a quarter, down to 16,
            where it does not divide the inputs of a weight. What 16 does not divide stays as it is.
        method: `rtn` or `gptq`, see `rounding`.
        error: the most that the action may move, as a share of its largest magnitude; the weights
            that move it most for their bytes stay as they are until it holds. None for no limit.
        exact_activations: whether executors leave what the weights multiply as it is.
        some: whether it is an error that there is nothing to round.
        by: what says how weights are rounded, beside all of this.
    """

    group: int
    method: str
    error: float | None
    exact_activations: bool = False
    some: bool = True
    by: tuple[object, ...] = ()

    def apply(self, program: Program, found: Products, seen: Sequence[Observation]) -> str:
        """Quantise the products, in place; what was done, for the report.

        Without observations weights have a shape alone, which is what a plan needs of them.
        """
        chosen = {
            phase: [product for product in listed if self._fits(product)]
            for phase, listed in found.items()
        }
        if not any(chosen.values()):
            if not self.some:
                return f"nothing to {INT4}"
            raise PassError(
                f"none of its weights that are large enough is a matrix with a number of inputs "
                f"that {_LEAST_GROUP} divides"
            )
        shared = Shared(ROUNDED.find(program) if self.error is None else None, chosen, self.by)
        rounding = self._rounding(program, shared.missing(chosen, self._group), seen)
        exact, how = self._exact(program, chosen, rounding, seen)
        weights: dict[tuple[Key, bool], Coded] = {}  # what each becomes, once for all phases
        for phase in program.phases:
            kept = [one for one in chosen[phase.name] if one.name not in exact]
            if kept:
                raise_opset(phase.model, phase.name)
            for product in kept:
                key, group = (key_of(product), product.is_embedding), self._group(product)
                if seen and key not in weights:
                    weights[key] = shared.find(product, group) or shared.keep(
                        product, group, in_codes(product, group, rounding(product))
                    )
                graph = phase.model.graph
                put_codes(graph, product, group, weights.get(key), self.exact_activations)
        done = {
            key_of(one) for listed in chosen.values() for one in listed if one.name not in exact
        }
        left = {key_of(one) for listed in found.values() for one in listed} - done
        return (
            f"{len(done)} weights to {INT4} in groups of {self.group} at most {how}; "
            f"{len(left)} stay"
        )

    def _exact(
        self,
        program: Program,
        chosen: Products,
        rounding: Callable[[Product], Rounded],
        seen: Sequence[Observation],
    ) -> tuple[frozenset[str], str]:
        """The weights that stay exact, and how the others are rounded."""
        if not seen:
            if self.error is not None:
                raise PassError(NOT_MEASURED)
            return frozenset(), "without content"
        how = f"by {self.method} over {len(seen)} observations"
        if self.error is None:
            return frozenset(), how
        stored = _stored(chosen, rounding)
        sizes = {one.name: one.bytes for one in _each(chosen)}

        def with_some(names: Sequence[str]) -> AbstractContextManager[Program]:
            return replaced(program, {name: stored[name] for name in names})

        exact, error = kept_exact(program, sizes, with_some, seen, self.error)
        return exact, f"{how}, which moves the action by {error:.2%}"

    def _fits(self, product: Product) -> bool:
        """A matrix whose inputs are whole blocks; a Gemm that is a product and a sum."""
        node, shape = product.node, product.shape
        if node.op_type not in ("MatMul", "Gemm", "Gather") or len(shape) != 2:
            return False
        scaled = any(node.attributes.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta"))
        return not scaled and self._group(product) >= _LEAST_GROUP

    def _group(self, product: Product) -> int:
        """The inputs that share a scale; too few where they are no whole blocks."""
        inputs = product.shape[1 - product.channel]
        group = self.group
        while inputs % group:
            group //= 2
        return group

    def _rounding(
        self, program: Program, chosen: Products, seen: Sequence[Observation]
    ) -> Callable[[Product], Rounded]:
        """What rounds a weight; one after the other, for all of a large model take much memory."""
        some = any(chosen.values()) and bool(seen)
        grams = _grams(program, chosen, seen) if some and self.method == GPTQ else {}

        def rounding(product: Product) -> Rounded:
            matrix, group = _matrix(product), self._group(product)
            if key_of(product) in grams:
                return gptq(matrix, group, grams[key_of(product)])
            return to_nearest(matrix, block_scales(matrix, group), group)

        if self.error is None:
            return rounding
        known: dict[Key, Rounded] = {}  # which stay exact is tried on all of them

        def once(product: Product) -> Rounded:
            if key_of(product) not in known:
                known[key_of(product)] = rounding(product)
            return known[key_of(product)]

        return once


def _each(chosen: Products) -> Iterator[Product]:
    """A product of each weight."""
    known = {key_of(one): one for listed in chosen.values() for one in listed}
    yield from known.values()


def _matrix(product: Product) -> Array:
    """The weight as float32 [inputs, outputs]. Raises PassError where it has no content."""
    tensor = product.weight.const_value
    if tensor is None:
        raise PassError(f"weight {product.name} has no content to quantise; give --weights")
    array = tensor.numpy().astype(np.float32)
    return array if product.channel == 1 else np.ascontiguousarray(array.T)


def _grams(program: Program, chosen: Products, seen: Sequence[Observation]) -> dict[Key, Grams]:
    """What weights are multiplied with: phases that share one add up. Every `_HELD`-th observation
    is held out.
    """
    grams: dict[Key, Grams] = {}
    read: dict[tuple[str, str], set[Key]] = {}
    multiplied = {
        phase: [one for one in listed if not one.is_embedding] for phase, listed in chosen.items()
    }
    for phase, listed in multiplied.items():
        for product in listed:
            key = key_of(product)
            read.setdefault((phase, str(product.activation.name)), set()).add(key)
            shape = (product.shape[1 - product.channel],) * 2
            if key not in grams:
                fitted = np.zeros(shape, np.float32)
                grams[key] = Grams(fitted, np.zeros(shape, np.float32) if len(seen) > 1 else fitted)

    names = {
        phase: [str(one.activation.name) for one in listed] for phase, listed in multiplied.items()
    }
    observed = Observed(program, names)
    for number, observation in enumerate(seen):
        held = len(seen) > 1 and number % _HELD == 1

        def see(phase: str, name: str, array: np.ndarray, held: bool = held) -> None:
            rows = array.astype(np.float32).reshape(-1, array.shape[-1])
            product = rows.T @ rows
            for key in read[phase, name]:
                found = grams[key].held if held else grams[key].seen
                found += product

        observed.step(observation, see)
    return grams


def _stored(chosen: Products, rounding: Callable[[Product], Rounded]) -> Weights:
    """The weights that the codes stand for, in the place and type of those that they replace."""
    made = {}
    for product in _each(chosen):
        array = rounding(product).restored()
        stored = array if product.channel == 1 else array.T
        made[product.name] = stored.astype(element(product.weight).numpy())
    return made
