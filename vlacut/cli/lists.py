"""`devices` and `models`: what there is to choose from."""

from __future__ import annotations

import click

from vlacut import registry
from vlacut.cli.output import console, json_option, print_json, size, table
from vlacut.hardware import Profile, device_names, load_profile


@click.command("devices")
@json_option
def devices_command(as_json: bool) -> None:
    """List the devices that --edge and --cloud know; a TOML file of one's own works too.

    A device is written NAME[@MODE][+STACK], e.g. jetson-agx-orin@30W+tensorrt; the mode and the
    stack that a bare NAME means come first.
    """
    profiles = [load_profile(name) for name in device_names()]
    if as_json:
        print_json({"devices": [_described(profile) for profile in profiles]})
        return
    rows = [
        (
            profile.device.name,
            size(profile.device.memory_bytes),
            f"{size(profile.device.memory_bandwidth)}/s",
            f"{profile.device.peak_flops('bfloat16') / 1e12:.1f}",
            ", ".join(profile.mode_names()),
            ", ".join(profile.stack_names()),
        )
        for profile in profiles
    ]
    columns = ("device", "memory", "bandwidth", "bf16 TFLOP/s", "@mode", "+stack")
    console().print(table("Devices", columns, rows))


def _described(profile: Profile) -> dict[str, object]:
    device = profile.device
    keys = ("name", "memory_bytes", "memory_bandwidth", "multiprocessors", "peak", "source")
    return {key: getattr(device, key) for key in keys} | {
        "modes": profile.mode_names(),
        "stacks": profile.stack_names(),
    }


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
