"""The library, as its README says: compile a module, serve it, step a policy."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx, nn

import vlacut
from vlacut.errors import InputError


class Policy(nn.Module):
    """Two inputs, so that observations have names to get right."""

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Linear(64, 64)
        self.act = nn.Linear(72, 7)

    def forward(self, image: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.act(torch.cat([torch.relu(self.see(image)), state], dim=1)))


ARGS = (torch.randn(1, 64), torch.randn(1, 8))


@pytest.mark.parametrize("form", ["module", "graph module", "exported program"])
def test_compile_serve_step(form: str, tmp_path: Path) -> None:
    module = Policy().eval()
    forms = {
        "module": lambda: module,
        "graph module": lambda: fx.symbolic_trace(module),
        "exported program": lambda: torch.export.export(module, ARGS),
    }
    given = () if form == "exported program" else ARGS
    options = {"edge": "jetson-agx-orin", "cloud": "a100", "link": "100GB/s"}
    bundle = vlacut.compile(forms[form](), given, out=tmp_path / "b", **options)
    assert bundle.plan.variants[0].price.bytes_up > 0
    server = vlacut.serve(tmp_path / "b")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with vlacut.connect(tmp_path / "b", "{}:{}".format(*server.address)) as policy:
            image, state = (tensor.numpy() for tensor in ARGS)
            (action,) = policy.step({"image": image, "state": state}).values()
    finally:
        server.shutdown()
        thread.join(10)
    np.testing.assert_allclose(action, module(*ARGS).detach().numpy(), atol=1e-6)


def test_a_target_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="compile needs edge, cloud and link"):
        vlacut.compile(Policy(), ARGS, out=tmp_path / "b", edge="a100")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vlacut.nothing  # noqa: B018
