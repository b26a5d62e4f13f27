"""What to do about failures of torch's exporters that are known, by what their messages say."""

from __future__ import annotations

import re

_CURES = (
    (
        r"_is_all_true",
        "the model asks whether a mask is all ones and skips it then; build it with "
        'attn_implementation="eager", or hand over no mask of that kind',
    ),
    (
        r"grouped_mm",
        "the experts run in an operator that ONNX has none of; call "
        'model.set_experts_implementation("batched_mm"), or "eager"',
    ),
    (
        r"\w*Cache'|lifted_tensor_\d+ is not in the constants",
        "a cache is an object, and phases hand on tensors: take keys and values as arguments of "
        "forward, build the cache in it, and return its layers' keys and values",
    ),
    (
        r"masked_scatter|\(NonZero\)",
        "masked_scatter and masks as an index make as many elements as a mask has ones: where the "
        "places are known index with them, else choose with torch.where",
    ),
)


def with_cure(text: str) -> str:
    """A message, with the next step where it is of a known failure."""
    cures = (cure for pattern, cure in _CURES if re.search(pattern, text))
    cure = next(cures, "")
    return f"{text}; {cure}" if cure else text
