"""Every tiny model of the zoo, end to end: compiled, cut under a budget, served, run, verified."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support.slow import quick
from support.zoo import traced

import vlacut
from vlacut import registry
from vlacut.compiler.driver import compile_program
from vlacut.compiler.target import Target
from vlacut.hardware import Side
from vlacut.ir.dataflow import weights_of
from vlacut.runtime.verification import verify_bundle


def weights_moved_at_run_time(bundle: Path) -> list[str]:
    """Operators that lay a weight out anew, in memory of their session's own."""
    return [
        f"{path.stem}: {node.name}"
        for path in bundle.rglob("*.onnx")
        for node in ir.load(path).graph
        if node.op_type == "Transpose" and node.inputs[0] and node.inputs[0].is_initializer()
    ]


@pytest.mark.parametrize("name", quick(registry.names("models"), "vit-mlp"))
def test_a_tiny_model_end_to_end(name: str, tmp_path: Path) -> None:
    program = traced(name)
    budget = sum(weights_of(program).values()) // 2
    # A link that makes the cloud worth while, and a budget that keeps half of the model from it.
    # A pool for a link from ten times as fast to a thousand times as slow, to verify more cuts.
    target = Target(
        "jetson-agx-orin",
        "a100",
        "1GB/s,0.02ms",
        f"{budget}B",
        pool=f"portfolio:{budget}B",
        bandwidth="1MB/s-10GB/s",
    )
    _, bundle = compile_program(program, target, tmp_path / "b")
    price = bundle.plan.variants[0].price
    assert len(bundle.plan.variants) > 1
    assert {part.side for part in bundle.plan.parts} == set(Side)
    assert price.cloud_weight_bytes <= budget
    assert not weights_moved_at_run_time(tmp_path / "b")
    for result in verify_bundle(bundle):
        # PyTorch's kernels round otherwise than ONNX Runtime's; a cut does not.
        assert result.passed if result.comparison == "module" else result.max_abs_error == 0, result
    server = vlacut.serve(tmp_path / "b")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with vlacut.connect(tmp_path / "b", "{}:{}".format(*server.address)) as policy:
            # Three steps that are alike, or where it remembers three that follow one another.
            recorded = policy.bundle.golden_sequence()
            for golden in (recorded * 3)[:3]:
                action = policy.step(golden.observation)
                for key, expected in golden.action.items():
                    np.testing.assert_array_equal(action[key], expected)
            moved = (policy.last.bytes_up, policy.last.bytes_down)
    finally:
        server.shutdown()
        thread.join(10)
    assert moved == (price.bytes_up, price.bytes_down)
