"""`devices` and `models`: what there is to choose from."""

from __future__ import annotations

import click

from vlacut import registry
from vlacut.cli.output import console, json_option, print_json, size, table
from vlacut.hardware import device_names, load_device


@click.command("devices")
@json_option
def devices_command(as_json: bool) -> None:
    """List the devices that --edge and --cloud know; a TOML file of one's own works too."""
    devices = [load_device(name) for name in device_names()]
    if as_json:
        keys = ("name", "memory_bytes", "memory_bandwidth", "peak", "source")
        print_json({"devices": [{key: getattr(item, key) for key in keys} for item in devices]})
        return
    rows = [
        (
            item.name,
            size(item.memory_bytes),
            f"{size(item.memory_bandwidth)}/s",
            f"{item.peak_flops('bfloat16') / 1e12:.1f}",
            f"{item.compute_efficiency:.2f}",
            f"{item.memory_efficiency:.2f}",
        )
        for item in devices
    ]
    columns = ("device", "memory", "bandwidth", "bf16 TFLOP/s", "of it achieved", "of bandwidth")
    console().print(table("Devices", columns, rows))


@click.command("models")
@json_option
def models_command(as_json: bool) -> None:
    """List the models of the zoo and their presets."""
    rows = []
    for name in registry.names("models"):
        make = registry.load("models", name)
        rows.append((name, ", ".join(make.presets), (make.__doc__ or "").strip().splitlines()[0]))
    if as_json:
        keys = ("name", "presets", "about")
        print_json({"models": [dict(zip(keys, row, strict=True)) for row in rows]})
        return
    console().print(table("Models", ("model", "presets", "what it is"), rows, left=3))
