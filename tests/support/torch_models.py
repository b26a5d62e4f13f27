"""Small modules with random weights for the tests of front end and passes, and their reference."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
import transformers
from torch import nn

from vlacut.frontends.torch import TorchPhase, program_from_torch
from vlacut.ir.program import Program


class Vit(nn.Module):
    """A vision transformer with a linear action head."""

    def __init__(self) -> None:
        super().__init__()
        config = transformers.ViTConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=16,
            patch_size=8,
        )
        self.vision = transformers.ViTModel(config, add_pooling_layer=False)
        self.head = nn.Linear(32, 7)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.vision(image).last_hidden_state[:, 0])


class Llama(nn.Module):
    """A decoder LLM with tied embeddings and one rotary cache, from embeddings to logits."""

    def __init__(self, layers: int = 2) -> None:
        super().__init__()
        config = transformers.LlamaConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=99,
            tie_word_embeddings=True,
        )
        self.language_model = transformers.LlamaForCausalLM(config)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.language_model(tokens, use_cache=False).logits


class T5(nn.Module):
    """An encoder-decoder whose two halves are two phases."""

    def __init__(self) -> None:
        super().__init__()
        config = transformers.T5Config(
            vocab_size=50,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            decoder_start_token_id=0,
        )
        self.t5 = transformers.T5ForConditionalGeneration(config)

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.t5.encoder(tokens).last_hidden_state

    def decode(self, memory: torch.Tensor, prefix: torch.Tensor) -> torch.Tensor:
        hidden = self.t5.decoder(prefix, encoder_hidden_states=memory, use_cache=False)
        return self.t5.lm_head(hidden.last_hidden_state)

    def forward(self, tokens: torch.Tensor, prefix: torch.Tensor) -> torch.Tensor:
        return self.decode(self.encode(tokens), prefix)


class Whisper(nn.Module):
    """An encoder-decoder with convolutions in front."""

    def __init__(self) -> None:
        super().__init__()
        config = transformers.WhisperConfig(
            vocab_size=60,
            num_mel_bins=8,
            d_model=32,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_source_positions=10,
            max_target_positions=8,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        )
        self.whisper = transformers.WhisperModel(config)

    def forward(self, sound: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        made = self.whisper(sound, decoder_input_ids=tokens, use_cache=False)
        return made.last_hidden_state


class Denoiser(nn.Module):
    """Two phases that share a block; the second is a loop that carries noise and step."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.norm = nn.LayerNorm(8)
        self.register_buffer("scale", torch.linspace(0.5, 1.5, 8), persistent=False)

    def encode(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.norm(self.block(image)), torch.zeros(1) + 3.0

    def denoise(
        self, noise: torch.Tensor, context: torch.Tensor, step: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.block(noise * self.scale + context) / (step + 1.0), step + 1.0


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x, extra=None, flag=True, more=None):
        y = self.inner(x) + more["a"]
        return {"y": y if flag else -y, "none": None, "pair": (x, y + 1)}


def denoiser_phases(module: nn.Module) -> tuple[TorchPhase, ...]:
    image, noise = torch.linspace(-1, 1, 16).reshape(2, 8), torch.ones(2, 8)
    return (
        TorchPhase("encode", module, {"image": image}, ("context", "step"), "encode"),
        TorchPhase(
            "denoise",
            module,
            {"noise": noise, "context": noise, "step": torch.zeros(1)},
            ("action", "next_step"),
            "denoise",
            trips=3,
            carried={"action": "noise", "next_step": "step"},
        ),
    )


def denoiser() -> tuple[nn.Module, Program]:
    module = seeded(Denoiser)
    program = program_from_torch(
        "denoiser", denoiser_phases(module), ["image", "noise"], ["action"]
    )
    return module, program


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """The module in evaluation mode, with the same random weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().eval()


def tokens(length: int) -> torch.Tensor:
    return (torch.arange(length) * 7 % 47)[None]


def image(size: int = 16) -> torch.Tensor:
    return torch.sin(torch.arange(3 * size * size).float()).reshape(1, 3, size, size)


def traced(build: Callable[[], nn.Module], **inputs: torch.Tensor) -> tuple[nn.Module, Program]:
    """A module of one phase, and its program with the output `out`."""
    module = seeded(build)
    phase = TorchPhase("main", module, inputs, ("out",))
    return module, program_from_torch("test", [phase], list(inputs), ["out"])


MODELS: Mapping[str, Callable[[], tuple[nn.Module, Program]]] = {
    "vit": lambda: traced(Vit, image=image()),
    "llama": lambda: traced(Llama, tokens=tokens(5)),
    "t5": lambda: traced(T5, tokens=tokens(6), prefix=tokens(3)),
    "whisper": lambda: traced(
        Whisper, sound=torch.cos(torch.arange(160.0)).reshape(1, 8, 20), tokens=tokens(4)
    ),
}


def run_graph(
    model: ir.Model, inputs: Mapping[str, np.ndarray], level: str = "ORT_ENABLE_BASIC"
) -> dict[str, np.ndarray]:
    """Outputs of a graph by name, on ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(inputs)), strict=True))


def run_program(program: Program, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The program's outputs, straight from the definition in `vlacut.ir.program`."""
    made: dict[str, np.ndarray] = {}
    for phase in program.phases:
        fed = {name: made.get(name, inputs.get(name)) for name in phase.input_names}
        for _ in range(phase.trips):
            outputs = run_graph(phase.model, fed)
            fed |= {target: outputs[output] for output, target in phase.carried.items()}
        made |= outputs
    return {spec.name: made[spec.name] for spec in program.outputs}


def digests() -> list[str]:
    """Of the graphs of a model and of a program of two phases, in order."""
    graphs = [phase.model for _, made in (MODELS["llama"](), denoiser()) for phase in made.phases]
    data = [ir.to_proto(graph).SerializeToString(deterministic=True) for graph in graphs]
    return [hashlib.sha256(item).hexdigest() for item in data]
