"""The policies by name, and their weights in files."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from .flow import FlowPolicy
from .tokens import TokenPolicy
from .touching import TouchPolicy

Net = TokenPolicy | FlowPolicy
POLICIES: dict[str, type[TokenPolicy] | type[FlowPolicy]] = {
    "tokens": TokenPolicy,
    "flow": FlowPolicy,
    "touch": TouchPolicy,
}


def save(net: Net, path: Path) -> None:
    """Write weights in float16."""
    path.parent.mkdir(exist_ok=True, parents=True)
    half = {key: value.to(torch.float16).contiguous() for key, value in net.state_dict().items()}
    fresh = path.with_suffix(".part")
    save_file(half, fresh)
    os.replace(fresh, path)


def load(name: str, weights: Path) -> Net:
    """A trained policy, in float32."""
    net = POLICIES[name]()
    read = load_file(weights / f"{name}.safetensors")
    net.load_state_dict({key: value.to(torch.float32) for key, value in read.items()})
    return net.eval()
