"""The recipe of a TensorRT engine: derived from the device, through the manifest and back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vlacut.errors import BackendError
from vlacut.hardware import device_names, load_device
from vlacut_backends.tensorrt.build import TensorRTBuilder, derive
from vlacut_backends.tensorrt.recipe import from_texts

# Compute capabilities as NVIDIA lists them, of the profiles that came first.
SM = {
    "a100": 80,
    "a100-40gb": 80,
    "h100": 90,
    "h200": 90,
    "jetson-agx-orin": 87,
    "jetson-agx-orin-32gb": 87,
    "jetson-agx-thor": 110,
    "jetson-orin-nx": 87,
    "l4": 89,
    "l40s": 89,
    "rtx-4090": 89,
    "rtx-5090": 120,
}


@pytest.mark.parametrize("name", [name for name in device_names() if load_device(name).cuda])
def test_every_device_with_cuda_has_one_that_reads_back(name: str) -> None:
    recipe = derive(load_device(name))
    assert recipe.sm == SM.get(name, recipe.sm)
    assert from_texts(TensorRTBuilder().recipe(load_device(name))) == recipe


def test_the_releases_it_covers() -> None:
    recipe = derive(load_device("jetson-agx-orin"))
    assert recipe.covers("10.3.0.26")
    assert recipe.covers("11.4.1.2")
    assert not recipe.covers("10.2.0.19")
    assert not recipe.covers("11.5.0.1")


def test_a_device_without_cuda_is_refused() -> None:
    with pytest.raises(BackendError, match=r"no \[cuda\]"):
        derive(replace(load_device("a100"), cuda=None))


def test_texts_that_are_wrong_are_named() -> None:
    good = derive(load_device("a100")).to_texts()
    with pytest.raises(BackendError, match="missing or unknown sm"):
        from_texts({key: value for key, value in good.items() if key != "sm"})
    for change, said in (
        ({"sm": "eighty"}, "must be a number"),
        ({"flags": "fp16"}, "flag 'fp16'"),
        ({"oldest": "12.0"}, "above newest"),
        ({"timing_cache": "cloud"}, "device or none"),
    ):
        with pytest.raises(BackendError, match=said):
            from_texts({**good, **change})
