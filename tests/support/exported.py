"""Small models of `transformers`, exported by torch's own exporter, as programs of one phase."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx_ir as ir
import torch
from transformers import LlamaConfig, LlamaModel, ViTConfig, ViTModel

from vlacut.frontends.exported.torchlib import torchlib_once
from vlacut.ir.graphs import value_spec
from vlacut.ir.program import Phase, Program

Make = Callable[[], tuple[torch.nn.Module, torch.Tensor]]

logging.getLogger("torch.onnx").setLevel(logging.ERROR)


class Wrapped(torch.nn.Module):
    """A module that returns one tensor, as the exporter wants it."""

    def __init__(self, model: torch.nn.Module, call: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.model = model
        self._call = call

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return self._call(self.model, value)


def llama(layers: int = 4) -> tuple[torch.nn.Module, torch.Tensor]:
    """Llama of width 64, 4 heads sharing 2 keys, feed-forward 128; 16 tokens."""
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=100,
        max_position_embeddings=64,
    )
    model = Wrapped(
        LlamaModel(config).eval(), lambda m, ids: m(ids, use_cache=False).last_hidden_state
    )
    return model, torch.zeros(1, 16, dtype=torch.long)


def vit(layers: int = 4) -> tuple[torch.nn.Module, torch.Tensor]:
    """ViT of width 32, 4 heads, feed-forward 64, on 16 patches of 8 x 8 and a class token."""
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
    )
    model = Wrapped(
        ViTModel(config, add_pooling_layer=False).eval(), lambda m, x: m(x).last_hidden_state
    )
    return model, torch.zeros(1, 3, 32, 32)


def export(module: torch.nn.Module, example: torch.Tensor, opset: int = 20) -> ir.Model:
    """The module in ONNX, module paths kept."""
    with warnings.catch_warnings(), torchlib_once():
        warnings.simplefilter("ignore")
        made = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=opset,
            verbose=False,
        )
    assert made is not None
    return made.model


def model_of(make: Make, opset: int = 20) -> ir.Model:
    """What a factory makes, in ONNX: an export takes 10 s, so that the tests of a run share it."""
    folder = Path(os.environ["XDG_CACHE_HOME"]) / "exported"
    path = folder / f"{make.__module__}.{make.__qualname__}-{opset}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        written = folder / f"{os.getpid()}.onnx"
        ir.save(export(*make(), opset), written)
        os.replace(written, path)  # another worker sees the whole file or none
    return ir.load(path)


def program_of(module: torch.nn.Module, example: torch.Tensor) -> Program:
    """The program of a module."""
    return program(export(module, example))


def program(model: ir.Model, **phase: Mapping[str, str] | int) -> Program:
    """The program of one phase that a model is."""
    graph = model.graph
    return Program(
        "test",
        (Phase("main", model, **phase),),  # type: ignore[arg-type]
        tuple(value_spec(value) for value in graph.inputs),
        tuple(value_spec(value) for value in graph.outputs),
    )
