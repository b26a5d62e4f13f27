"""Codes that precisions share: those of W4A16 are those of W4A8, so a weight is rounded once.

What codes depend on is the weight, how it is rounded, and, by GPTQ, what is seen of what it
multiplies. The compiler hands the same memory to the program in every precision (`ROUNDED`).
"""

from __future__ import annotations

from collections.abc import Callable

from vlacut_passes.quantising.products import Product, Products
from vlacut_passes.quantising.weights import Coded

Key = tuple[str, int]  # a weight's name, and the axis of its outputs


def key_of(product: Product) -> Key:
    """Products of one key have one weight."""
    return product.name, product.channel


class Shared:
    """What other precisions have rounded.

    Args:
        known: what is shared; None for nothing.
        chosen: the products that are to be rounded.
        by: how.
    """

    def __init__(
        self, known: dict[object, object] | None, chosen: Products, by: tuple[object, ...]
    ) -> None:
        self._known, self._by = known, by
        self._read: dict[Key, list[tuple[str, str]]] = {}
        for phase, listed in chosen.items():
            for product in listed:
                multiplied = "" if product.is_embedding else str(product.activation.name)
                self._read.setdefault(key_of(product), []).append((phase, multiplied))

    def missing(self, chosen: Products, group: Callable[[Product], int]) -> Products:
        """The products whose codes are still to be made."""
        return {
            phase: [one for one in listed if self.find(one, group(one)) is None]
            for phase, listed in chosen.items()
        }

    def find(self, product: Product, group: int) -> Coded | None:
        """The codes of a product's weight, if they are known."""
        found = (self._known or {}).get(self._depends(product, group))
        return found[1] if isinstance(found, tuple) else None

    def keep(self, product: Product, group: int, made: Coded) -> Coded:
        """The same codes, known from now on."""
        if self._known is not None:  # the weight, too, lest another takes its identity
            self._known[self._depends(product, group)] = product.weight.const_value, made
        return made

    def _depends(self, product: Product, group: int) -> tuple[object, ...]:
        key = key_of(product)
        read = tuple(self._read[key])
        return id(product.weight.const_value), key, product.is_embedding, group, self._by, read
