"""Engines opened for one control loop, and what they share while it lasts."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vlacut import registry
from vlacut.backend import SHARED, Engine, Lane, Tensor
from vlacut.bundle.holding import held
from vlacut.bundle.layout import part_file, part_files
from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import check_files
from vlacut.bundle.store import WeightStore
from vlacut.errors import BundleError, InputError
from vlacut.hardware import Side
from vlacut.plans.batch import MOST_TOGETHER, batch_name
from vlacut.plans.plan import Part, Plan
from vlacut.runtime.closing import Closing

EMULATED = "emulated"  # the back end of the twin


class OpenedEngines(dict[str, Any], Closing):
    """Engines by part, as one control loop uses them: two loops share no state.

    Those of a device are opened, see `DeviceEngine`; the others are as they were.
    Raises BackendError if one cannot be.
    """

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        super().__init__()
        self._lanes: dict[Hashable, Lane] = {}
        try:
            for name, engine in engines.items():
                opens = getattr(engine, "open", None)
                self[name] = engine if opens is None else opens(self._join)
        except BaseException:
            self.close()
            raise

    def _join(self, owner: Hashable, make: Callable[[], Lane]) -> Lane:
        if owner not in self._lanes:
            self._lanes[owner] = make()
        return self._lanes[owner]

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """Room for a tensor of the wire, where a device reaches it if there is one."""
        for lane in self._lanes.values():
            return lane.empty(shape, dtype)
        return np.empty(shape, dtype)

    def close(self) -> None:
        """Give everything back; calling it again does nothing."""
        self.clear()
        while self._lanes:
            self._lanes.popitem()[1].close()


def warm_up(parts: Iterable[Part], engines: Mapping[str, Any], plan: Plan) -> None:
    """Run every engine once on zeros: the first run of one allocates, and takes longer.

    Raises BackendError where one fails.
    """
    for part in parts:
        specs = {key: plan.spec[key] for key in part.inputs}
        held: dict[str, Any] = {
            key: np.zeros(spec.numpy_shape, spec.numpy_dtype) for key, spec in specs.items()
        }
        take = getattr(engines[part.name], "take", None)
        if take is not None:
            held = {key: take(key, array) for key, array in held.items()}
        engines[part.name].run(held)


def computes(bundle: Bundle, emulate: bool) -> bool:
    """Whether engines compute; those of emulated devices wait for the plan's times."""
    return not emulate and EMULATED not in bundle.manifest.backends.values()


def host_arrays(tensors: Iterable[Tensor]) -> list[np.ndarray]:
    """Tensors in host memory; those on a device come together, not one after the other."""
    listed = list(tensors)
    for tensor in listed:
        if not isinstance(tensor, np.ndarray):
            tensor.start()
    for index, tensor in enumerate(listed):
        if not isinstance(tensor, np.ndarray):
            listed[index] = tensor.array()
    return listed  # type: ignore[return-value]  # all are arrays by now


def load_engines(
    bundle: Bundle,
    side: Side,
    emulate: bool = False,
    root: Path | None = None,
    provider: str = "",
    batches: Container[int] = (),
) -> dict[str, Engine]:
    """Engines of a side's parts, by name; with `emulate`, ones that take the plan's times.

    Also those for so many robots at once as `batches` has, see `vlacut.plans.batch`.

    The files are those of `root`, where that is given, see `vlacut.bundle.holding`. A `provider`
    takes the place of the recipe's; InputError if the back end has none to choose from.
    """
    root = root or bundle.root
    executor = registry.load("executors", EMULATED if emulate else bundle.backend(side))()
    recipe = on_provider(bundle, side, provider)
    if "prepack" in recipe:  # these engines are to last
        recipe = {**recipe, "prepack": SHARED}
    files = {part.name: part_file(part) for part in bundle.parts(side)}
    for part in bundle.parts(side):
        for batch, file in zip(part.batches, part_files(part)[1:], strict=True):
            if batch.robots in batches:
                files[batch_name(part.name, batch.robots)] = file
    return {name: executor.load(root / file, root, recipe) for name, file in files.items()}


def on_provider(bundle: Bundle, side: Side, provider: str) -> Mapping[str, str]:
    """A side's recipe with another provider; as it is without one.

    Raises InputError if the side's back end has none to choose from.
    """
    recipe = bundle.recipe(side)
    if provider and "provider" not in recipe:
        raise InputError(
            f"--provider {provider}: back end {bundle.backend(side)} has none to choose from; "
            f"leave it out"
        )
    return {**recipe, "provider": provider.replace("+", ",")} if provider else recipe


def edge_engines(
    bundle: Bundle, emulate: bool, in_place: bool, provider: str = ""
) -> dict[str, Engine]:
    """The edge's, see `_held_engines`."""
    return _held_engines(bundle, Side.EDGE, emulate, in_place, provider)


def cloud_engines(
    bundle: Bundle,
    emulate: bool,
    in_place: bool,
    provider: str = "",
    store: WeightStore | None = None,
    batches: Container[int] = range(MOST_TOGETHER + 1),
) -> dict[str, Engine]:
    """The cloud's, see `_held_engines`; and those for so many robots at once as `batches` has."""
    return _held_engines(bundle, Side.CLOUD, emulate, in_place, provider, store, batches)


def _held_engines(
    bundle: Bundle,
    side: Side,
    emulate: bool,
    in_place: bool,
    provider: str,
    store: WeightStore | None = None,
    batches: Container[int] = (),
) -> dict[str, Engine]:
    """A side's engines, of files that were verified and that nobody else can change.

    Weights are shared with the other bundles of a `store`.
    """
    if emulate or bundle.backend(side) == EMULATED:  # nothing is read but the manifest
        return load_engines(bundle, side, emulate)
    with held(bundle, side, in_place, store) as root:
        mine = {name for name in bundle.files if not in_place and (root / name).exists()}
        for problem in check_files(bundle, mine):
            raise BundleError(f"{bundle.root}: {problem}; compile it again, or copy it again")
        return load_engines(bundle, side, emulate, root, provider, batches)
