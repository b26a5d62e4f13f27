"""Predicts parts of models on this machine that calibration never saw, and measures them.

    python tools/predict_here.py [--device here.toml] [--threads 1] [--turns 15] [--only w4a8]

The models are the tiny presets of the zoo, and models of `transformers` with random weights, at
tiny and at real widths with few layers: whole and cut in the middle, prefill and decode, batch 1;
and the decoder that `bench_precision.py` runs. Some with weights in 8 and 4 bits, too.
Without --device the graphs of calibration are measured in the same turns as they, so that a machine
that grows slower does so for both; a device is fitted to the medians of the turns and another to
the shortest runs, which is what a machine that others use too can do. With it, calibration's blocks
are measured in these turns: what they took over what the device says of them is the machine's drift
since it was calibrated, and the figures are printed as they are and without it. Prints for each of
the two a row per part, measured over predicted as a plot, the median error, the share inside the
stated interval, and the background load meanwhile.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
import transformers as hf
from decode_heavy import Decoder as Stack
from decode_heavy import Size
from rich.console import Console

from vlacut import registry
from vlacut.cli.show.output import table
from vlacut.cli.show.progress import progress_bar
from vlacut.frontends.load import load_program
from vlacut.frontends.torch import TorchPhase, program_from_torch
from vlacut.hardware import Device, Side, load_device, parse_link
from vlacut.ir.dataflow import trace_dataflow
from vlacut.ir.pipeline import parse_pipeline
from vlacut.ir.program import Program, copied
from vlacut.measurement.calibration.blocks import blocks
from vlacut.measurement.calibration.calibrating import (
    calibration_samples,
    fit_profile,
    forms_of,
    observe,
)
from vlacut.measurement.calibration.chain import Sample
from vlacut.measurement.calibration.measuring import measure_samples
from vlacut.pricing.cut import make_cut
from vlacut.pricing.roofline import interval, sequence_seconds
from vlacut.split.parts import split_at, whole

_LINK = parse_link("10MB/s")  # the split needs one; nothing here depends on it
QUANTISED = ("vit 768", "llama", "stack")  # what is predicted with weights in 8 and 4 bits, too
FORMS = {
    "w8a8": "weights=int8",
    "w4a8": "weights=int4 method=rtn observations=1",
    "w4a16": "weights=int4 method=rtn observations=1 activations=float",
}
_PLOT_COLUMNS = 41
_PLOT_SPAN = 1.0  # of the logarithm, to either side


class Decoder(torch.nn.Module):
    """A token of a decoder with a cache of keys and values."""

    def __init__(self, config: hf.LlamaConfig) -> None:
        super().__init__()
        self.model = hf.LlamaModel(config)
        self.model.train(False)

    def forward(self, hidden: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> object:
        cache = hf.DynamicCache(config=self.model.config)
        for layer, (key, value) in enumerate(zip(keys, values, strict=True)):
            cache.update(key, value, layer)
        past = keys.shape[3]
        position = torch.full((1, hidden.shape[1]), past, dtype=torch.long)
        made = self.model(inputs_embeds=hidden, past_key_values=cache, position_ids=position)
        return made.last_hidden_state


class Wrapped(torch.nn.Module):
    """A module that returns one tensor."""

    def __init__(self, model: torch.nn.Module, call: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.model = model.eval()
        self._call = call

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self._call(self.model, *inputs)


def _llama(width: int, layers: int, heads: int, kv_heads: int) -> hf.LlamaConfig:
    return hf.LlamaConfig(
        hidden_size=width,
        intermediate_size=8 * width // 3 // 32 * 32,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=256,
    )


def _vision(kind: str, width: int, layers: int, image: int, patch: int) -> torch.nn.Module:
    config_type, model_type = getattr(hf, f"{kind}Config"), getattr(hf, f"{kind}Model")
    config = config_type(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        image_size=image,
        patch_size=patch,
    )
    return Wrapped(model_type(config), lambda model, x: model(x).last_hidden_state)


def _bert(width: int, layers: int) -> torch.nn.Module:
    config = hf.BertConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        vocab_size=1000,
    )
    model = hf.BertModel(config, add_pooling_layer=False)
    return Wrapped(model, lambda model, ids: model(ids).last_hidden_state)


def _t5(width: int, layers: int) -> torch.nn.Module:
    config = hf.T5Config(
        d_model=width, d_ff=4 * width, num_layers=layers, num_heads=width // 64, vocab_size=1000
    )
    return Wrapped(hf.T5EncoderModel(config), lambda model, ids: model(ids).last_hidden_state)


def _whisper(width: int, layers: int) -> torch.nn.Module:
    config = hf.WhisperConfig(
        d_model=width,
        encoder_layers=layers,
        encoder_attention_heads=width // 64,
        encoder_ffn_dim=4 * width,
        max_source_positions=200,
    )
    encoder = hf.WhisperModel(config).encoder
    return Wrapped(encoder, lambda model, mel: model(mel).last_hidden_state)


def _llama_prefill(config: hf.LlamaConfig) -> torch.nn.Module:
    return Wrapped(
        hf.LlamaModel(config),
        lambda model, x: model(inputs_embeds=x, use_cache=False).last_hidden_state,
    )


def _ids(length: int) -> torch.Tensor:
    return torch.zeros(1, length, dtype=torch.long)


def exported() -> Iterator[tuple[str, torch.nn.Module, tuple[torch.Tensor, ...]]]:
    """Models of transformers with random weights and their inputs."""
    yield "vit 192 x4", _vision("ViT", 192, 4, 112, 16), (torch.zeros(1, 3, 112, 112),)
    yield "vit 768 x2", _vision("ViT", 768, 2, 224, 16), (torch.zeros(1, 3, 224, 224),)
    yield "dinov2 384 x3", _vision("Dinov2", 384, 3, 224, 14), (torch.zeros(1, 3, 224, 224),)
    yield "siglip 768 x2", _vision("SiglipVision", 768, 2, 224, 16), (torch.zeros(1, 3, 224, 224),)
    yield "bert 128 x2", _bert(128, 2), (_ids(32),)
    yield "bert 768 x2", _bert(768, 2), (_ids(128),)
    yield "t5 512 x3", _t5(512, 3), (_ids(64),)
    yield "whisper 384 x2", _whisper(384, 2), (torch.zeros(1, 80, 400),)
    for width, layers, heads, kv_heads in ((256, 4, 4, 2), (1024, 2, 16, 16), (2048, 1, 16, 4)):
        config = _llama(width, layers, heads, kv_heads)
        name = f"llama {width} x{layers}"
        yield f"{name} prefill 64", _llama_prefill(config), (torch.zeros(1, 64, width),)
        past = torch.zeros(layers, 1, kv_heads, 200, width // heads)
        yield f"{name} decode", Decoder(config), (torch.zeros(1, 1, width), past, past)


def stacks() -> Iterator[tuple[str, Program]]:
    """The decoder of 300 MB that `bench_precision.py` and `bench_pack.py` run."""
    size = Size()
    yield f"stack {size.width} x{size.layers}", Stack(size, 64, 6).program()


def of_transformers() -> Iterator[tuple[str, Program]]:
    """Those of `exported` as programs of one phase."""
    for name, module, inputs in exported():
        named = {f"x{index}": value for index, value in enumerate(inputs)}
        phase = TorchPhase("main", module, named, ("y",))
        yield name, program_from_torch("exported", [phase], list(named), ["y"])


def programs() -> Iterator[tuple[str, Program]]:
    """Everything to predict."""
    for name in registry.names("models"):
        yield name, load_program(f"{name}:tiny", {})
    for name, program in chain(stacks(), of_transformers()):
        if name.startswith(QUANTISED):
            for form, text in FORMS.items():
                rounded = copied(program)
                parse_pipeline(f"simplify,quantise{{{text}}}").run(rounded)
                yield f"{name} {form}", rounded
        yield name, program


def parts(name: str, program: Program) -> Iterator[Sample]:
    """Its phases whole, and, where it has one phase or is large, cut in the middle."""
    parse_pipeline("simplify,annotate-structure,annotate-cost").run(program)
    for phase in program.phases:
        label = name if len(program.phases) == 1 else f"{name} {phase.name}"
        yield Sample(label, whole(phase, phase.input_names))
    dataflow = trace_dataflow(program)
    here = (len(dataflow.nodes) - 1) // 2
    there = len(dataflow.nodes) - 2 - here
    sides = (Side.EDGE, *[Side.EDGE] * here, *[Side.CLOUD] * there, Side.EDGE)
    halves = make_cut(dataflow.cost_graph(), sides, _LINK, name="halves", origin="here")
    cut = split_at(dataflow, (halves,), _LINK)
    many = len(program.phases) > 1
    for part, model in zip(cut.parts, cut.models, strict=True):
        if not many or len({other.side for other in cut.parts if other.phase == part.phase}) > 1:
            yield Sample(f"{name} part {part.name}", model)


@dataclass(frozen=True)
class Row:
    """A part: seconds predicted and measured."""

    name: str
    predicted: float
    measured: float


def rows(device: Device, samples: Sequence[Sample], seconds: Sequence[float]) -> list[Row]:
    """What the device's model says of every sample that is more than views, and what it took."""
    return [
        Row(item.name, sequence_seconds(item.kernels, device, item.working_set), item.seconds)
        for item in observe(samples, seconds)
        if item.kernels
    ]


def _mark(ratio: float, spread: float) -> str:
    """A line of the plot: the interval as dashes, 1 as a bar, what was measured as an o."""
    line = [" "] * _PLOT_COLUMNS
    for column in range(_PLOT_COLUMNS):
        at = (2 * column / (_PLOT_COLUMNS - 1) - 1) * _PLOT_SPAN
        line[column] = "|" if abs(at) < 1e-9 else "-" if abs(at) <= 1.645 * spread else " "
    at = (np.log(ratio) / _PLOT_SPAN + 1) / 2 * (_PLOT_COLUMNS - 1)
    line[int(np.clip(round(at), 0, _PLOT_COLUMNS - 1))] = "o"
    return "".join(line)


def show(which: str, device: Device, found: Sequence[Row]) -> None:
    """Print a table of the rows, and how far off they are together."""
    spread = device.stack.spread
    shown = [
        (
            row.name,
            f"{1e6 * row.predicted:.1f}",
            f"{1e6 * row.measured:.1f}",
            f"{row.predicted / row.measured - 1:+.1%}",
            _mark(row.measured / row.predicted, spread),
        )
        for row in found
    ]
    columns = ("part", "predicted us", "measured us", "error", "measured / predicted")
    console = Console(width=110, highlight=False)
    console.print(table(f"Parts that calibration never saw: {which}", columns, shown))
    console.print(summary(which, device, found))


def summary(which: str, device: Device, found: Sequence[Row]) -> str:
    """How far off rows are together."""
    bounds = [interval(row.predicted, device) for row in found]
    inside = [low <= row.measured <= high for row, (low, high) in zip(found, bounds, strict=True)]
    errors = [abs(row.predicted / row.measured - 1) for row in found]
    ratio = np.median([row.measured / row.predicted for row in found])
    return (
        f"{which}: median error {np.median(errors):.1%}, {np.mean(inside):.0%} inside the "
        f"interval, median of measured / predicted {ratio:.3f}"
    )


def drift(device: Device, found: Sequence[Row]) -> float:
    """How many times as long as the device says the blocks of its own calibration take now.

    The part of it that the machine did not have when it was calibrated is drift: others that use
    it, its clock, its memory. The rest is the fit's, a percent or two.
    """
    return float(np.median([row.measured / row.predicted for row in found]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="", help="a profile of this machine; else calibrates")
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--threads", type=int, default=0, help="of an engine; 0 as in bundles")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--only", default="", help="parts whose name has this text")
    chosen = parser.parse_args()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    forms = forms_of(chosen.backend, chosen.threads)
    beside = tuple(blocks()) if chosen.device else calibration_samples(forms)
    unseen = [
        part
        for name, program in programs()
        for part in parts(name, program)
        if chosen.only in part.name
    ]
    measuring = chosen.backend, chosen.turns, chosen.threads
    with progress_bar() as progress:
        measured = measure_samples((*beside, *unseen), *measuring, progress)
    for which, every in (
        ("medians of the turns", [found.seconds for found in measured]),
        ("shortest runs", [found.shortest for found in measured]),
    ):
        known, seconds = every[: len(beside)], every[len(beside) :]
        if not chosen.device:
            device = fit_profile("here", *measuring, beside, known).profile.device
            show(which, device, rows(device, unseen, seconds))
            continue
        device = load_device(chosen.device)
        show(which, device, rows(device, unseen, seconds))
        factor = drift(device, rows(device, beside, known))
        without = rows(device, unseen, [took / factor for took in seconds])
        print(summary(f"without the machine's drift of {factor:.3f}", device, without))
    load = measured[0].background_load
    if load is not None:
        print(f"background load: {load:.1%} of all processors in the turns that counted")


if __name__ == "__main__":
    main()
