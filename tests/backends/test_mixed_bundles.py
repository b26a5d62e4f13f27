"""Bundles whose sides have different back ends: codecs, precisions and signatures, both ways round,
over real sockets.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.commands import Vlacut
from support.precisions import policy, slow_memory
from support.programs import TARGET, looping_program

import vlacut as package
from vlacut.bundle.opened import Bundle
from vlacut.bundle.reading import open_bundle
from vlacut.compiler.driver import compile_program
from vlacut.errors import BackendError, VlacutError
from vlacut.hardware import Side
from vlacut.runtime.verification import CUT, verify_bundle
from vlacut.security.signing import PUBLIC, make_signer
from vlacut.tensor.numerics import relative_difference

pytest.importorskip("torch")
PAIRS = ("edge=onnxruntime,cloud=torch", "edge=torch,cloud=onnxruntime")
pairs = pytest.mark.parametrize("backend", PAIRS, ids=["torch-serves", "torch-drives"])


@contextmanager
def driven(bundle: Bundle, **options: object) -> Iterator[package.Policy]:
    """A robot of the bundle, connected to a server of it."""
    server = package.serve(bundle.root)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = "{}:{}".format(*server.address)
        with package.connect(bundle.root, address, **options) as robot:  # type: ignore[arg-type]
            yield robot
    finally:
        server.shutdown()
        thread.join(20)


def errors_over_the_wire(bundle: Bundle, variant: str, steps: int = 3) -> list[float]:
    """Of the golden step, by one variant."""
    golden, observed = bundle.golden("action"), bundle.golden("observation")
    with driven(bundle, selector=variant) as robot:
        found = [relative_difference(robot.step(observed), golden) for _ in range(steps)]
        assert robot.last.variant == variant
        assert robot.last.source.value == "chosen"
    return found


def cut(folder: Path, backend: str, link: str, **options: str) -> Bundle:
    """Two phases, the first on the robot, the second, a loop, on the server."""
    return package.compile(
        policy(folder),
        edge=slow_memory(folder),
        cloud="a100",
        link=link,
        out=folder / "b",
        pin=("encode*=edge", "denoise*=cloud"),
        backend=backend,
        **options,  # type: ignore[arg-type]
    )


@pairs
def test_codecs_between_two_back_ends(backend: str, tmp_path: Path) -> None:
    bundle = cut(tmp_path, backend, "10kB/s,1ms", codecs="int8")
    (chosen,) = bundle.plan.variants
    assert {one.source for one in chosen.coded} == set(Side)
    assert bundle.manifest.backend == backend
    stated = chosen.action_error
    assert stated.allowed is not None
    assert all(one.passed for one in verify_bundle(bundle))
    most = stated.allowed + bundle.manifest.tolerance
    assert 0 < max(errors_over_the_wire(bundle, "chosen")) <= most


@pairs
def test_float16_between_two_back_ends(backend: str, tmp_path: Path) -> None:
    """What crosses has one type, so it is of 16 bits on both."""
    bundle = cut(tmp_path, backend, "1GB/s,0us", precision="float16")
    assert bundle.plan.spec["encode/memory"].dtype == "float16"
    assert bundle.manifest.tolerance > 0
    assert all(one.passed for one in verify_bundle(bundle))
    assert max(errors_over_the_wire(bundle, "chosen")) <= 2 * bundle.manifest.tolerance


@pairs
def test_precisions_between_two_back_ends(backend: str, tmp_path: Path) -> None:
    bundle = cut(tmp_path, backend, "1GB/s,0us", precisions="float16")
    names = [one.name for one in bundle.plan.variants]
    assert names == ["chosen", "chosen@float16"]
    for variant in bundle.plan.variants:
        sides = {side for side in Side if bundle.plan.variant_parts(variant, side)}
        assert sides == set(Side)
    results = verify_bundle(bundle)
    assert all(one.passed for one in results)
    errors = [one.max_abs_error for one in results if one.comparison == CUT]
    assert errors[0] < errors[1]
    stated = bundle.plan.variants[1].action_error
    assert stated.allowed is not None
    most = stated.allowed + bundle.manifest.tolerance
    assert max(errors_over_the_wire(bundle, "chosen@float16")) <= most


def test_an_operator_that_one_side_lacks_is_named(tmp_path: Path) -> None:
    said = r"torch cannot run encode\.0 on .*: DequantizeLinear .* block_size 32"
    with pytest.raises(BackendError, match=said):
        cut(tmp_path, PAIRS[1], "1MB/s,20ms", precisions="int4")
    assert not (tmp_path / "b").exists()


@pairs
def test_a_signature_is_of_both_sides(backend: str, tmp_path: Path, vlacut: Vlacut) -> None:
    bundle = compile_program(looping_program(), TARGET, tmp_path / "b", backend=backend)[1]
    signer = make_signer(tmp_path / "KEYS")
    assert vlacut("sign", bundle.root, "--key", signer / "key.pem")[0] == 0
    with driven(bundle, trusted=signer / PUBLIC) as robot:
        robot.step(bundle.golden("observation"))
    for side in Side:
        (part, *_) = bundle.parts(side)
        data = bundle.part_path(part).read_bytes()
        bundle.part_path(part).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(VlacutError, match="altered"):
            open_bundle(bundle.root)
        bundle.part_path(part).write_bytes(data)
