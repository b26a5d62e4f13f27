"""Processors of a bundle: none of what changes numbers, for that is inside."""

from __future__ import annotations

from typing import Any

from lerobot.processor import (
    AddBatchDimensionProcessorStep,
    DeviceProcessorStep,
    PolicyProcessorPipeline,
    RenameObservationsProcessorStep,
)
from lerobot.processor.converters import policy_action_to_transition, transition_to_policy_action


def make_vlacut_pre_post_processors(config: Any, dataset_stats: Any = None) -> tuple[Any, Any]:
    """The two pipelines; statistics are the bundle's own, and those of a data set are not read."""
    before = [
        RenameObservationsProcessorStep(rename_map={}),
        AddBatchDimensionProcessorStep(),
        DeviceProcessorStep(device="cpu"),
    ]
    after = PolicyProcessorPipeline(
        steps=[DeviceProcessorStep(device="cpu")],
        name="policy_postprocessor",
        to_transition=policy_action_to_transition,
        to_output=transition_to_policy_action,
    )
    return PolicyProcessorPipeline(steps=before, name="policy_preprocessor"), after
