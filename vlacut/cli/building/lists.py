"""`devices` and `models`: what there is to choose from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlacut import registry
from vlacut.cli import completion
from vlacut.cli.show.output import console, json_option, print_json, say_next, size, table, to_plan
from vlacut.hardware import (
    Profile,
    device_names,
    load_profile,
    profile_text,
    with_power_modes,
)

if TYPE_CHECKING:  # the program's half takes longer to import than `devices` may
    from vlacut.ir.program import Model, Outline


@click.command("devices")
@click.argument("name", default="", shell_complete=completion.devices)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="A .toml file for NAME.")
@click.option(
    "--nvpmodel",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Power modes of the board itself: its /etc/nvpmodel.conf.",
)
@json_option
def devices_command(name: str, out: Path | None, nvpmodel: Path | None, as_json: bool) -> None:
    """List the devices that --edge and --cloud know.

    With NAME, write its profile as TOML.

    A device is written NAME[@MODE][+STACK], e.g. jetson-agx-orin@30W+tensorrt; the mode and the
    stack that a bare NAME means come first. A TOML file of one's own takes the place of a NAME.
    """
    if name:
        _write_profile(name, out, nvpmodel, as_json)
        return
    if out or nvpmodel:
        raise click.UsageError("name the device whose profile is to be written")
    profiles = [load_profile(known) for known in device_names()]
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
    columns = ("device", "memory", "bandwidth", "TFLOP/s", "@mode", "+stack")
    console().print(table("Devices; TFLOP/s dense, in bfloat16", columns, rows))
    say_next(to_plan(), "vlacut models")


def _write_profile(name: str, out: Path | None, nvpmodel: Path | None, as_json: bool) -> None:
    if out and out.suffix != ".toml":
        raise click.BadParameter(f"{out} must end in .toml, by which --edge knows a file")
    profile = load_profile(name)
    if nvpmodel:
        profile = with_power_modes(profile, nvpmodel)
    if out:
        from vlacut.bundle.staging import write_file  # with locks and keys: no list needs them

        write_file(out, profile_text(profile))
    if as_json:
        print_json({"devices": [_described(profile)]})
    elif out:
        modes = ", ".join(profile.mode_names()) or "none"
        console().print(f"wrote {out} with power modes {modes}", markup=False)
        say_next(to_plan(edge=str(out)))
    else:
        click.echo(profile_text(profile), nl=False)


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
    from vlacut.cli.show.progress import progress_bar  # `devices` counts nothing

    found: list[tuple[str, str, Outline]] = []
    models = {name: registry.load("models", name) for name in registry.names("models")}
    count = sum(len(model.presets) for model in models.values())
    with progress_bar() as progress:
        for name, model in models.items():
            for preset in model.presets:
                progress(f"{name}:{preset}", len(found), count)
                found.append((name, preset, model.outline(preset)))
    if as_json:
        rows = [{"model": f"{name}:{preset}", **asdict(outline)} for name, preset, outline in found]
        about = {name: _first_line(model) for name, model in models.items()}
        print_json({"models": rows, "about": about})
        return
    lines = [_model_line(*item) for item in found]
    columns = ("model", "phases", "parameters", "weights")
    out = console()
    out.print(table("Models (MODEL is NAME, or NAME:PRESET)", columns, lines, left=2))
    out.print(table("", ("", ""), [(name, _first_line(item)) for name, item in models.items()], 2))
    say_next("vlacut explain MODEL", to_plan())


def _first_line(model: Model) -> str:
    return (model.__doc__ or "").strip().partition("\n")[0]


def _model_line(name: str, preset: str, outline: Outline) -> tuple[str, ...]:
    phases = (
        phase if trips == 1 else f"{phase} x{trips}" for phase, trips in outline.phases.items()
    )
    model = name if preset == "full" else f"{name}:{preset}"
    return (model, ", ".join(phases), f"{outline.parameters:,}", size(outline.weight_bytes))
