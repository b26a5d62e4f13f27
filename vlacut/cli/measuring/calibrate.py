"""`calibrate`: this machine as a device."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from vlacut.bundle.staging import write_file
from vlacut.cli.show.output import check_place, console, json_option, print_json, say_next, table
from vlacut.cli.show.progress import progress_bar
from vlacut.hardware import profile_text
from vlacut.hardware.codec_speed import CodecSpeed
from vlacut.measurement.calibration.calibrating import Calibration, calibrate
from vlacut.measurement.calibration.machine import seen_gpu

_TURNS = 15
_WORTH_SAYING = 0.05  # background load, as a share of all processors


@click.command("calibrate")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="A .toml file.")
@click.option("--backend", default="", help="Runs the samples; else what is here, see the output.")
@click.option("--provider", default="", help="cuda, tensorrt or cpu: what the back end takes.")
@click.option("--turns", default=_TURNS, show_default=True, type=click.IntRange(3))
@click.option("--threads", default=0, help="Of an engine; 0 for what the back end takes.")
@json_option
def calibrate_command(
    out: Path, backend: str, provider: str, turns: int, threads: int, as_json: bool
) -> None:
    """Measure this machine, and write it as a device.

    ONNX Runtime runs the samples, or PyTorch where that is what is here. The file is for --edge or
    --cloud. With --provider cuda it is of this machine's GPU.

    This takes about a minute. Nothing else should run meanwhile.
    """
    if out.suffix != ".toml":
        raise click.BadParameter(f"{out} must end in .toml, by which --edge knows a file")
    check_place(out)
    with progress_bar() as progress:
        found = calibrate(out.stem, backend, turns, threads, progress, provider)
    write_file(out, profile_text(found.profile))
    if as_json:
        print_json(_calibration_json(out, found, provider))
        return
    for said in _measured_by(found, provider):
        console().print(said, markup=False, soft_wrap=True)
    rows = [
        (name, f"{value:.3g}", f"{100 * found.fit.deviations[name]:.0f} %")
        for name, value in found.fit.parameters.items()
    ]
    console().print(table("Parameters of the device model", ("parameter", "value", "spread"), rows))
    console().print(
        f"\n{len(found.observations)} graphs measured; median error of the fit "
        f"{100 * _median_error(found):.1f} %; 90 % of blocks, "
        f"each predicted without its family, within a factor of "
        f"{math.exp(1.645 * found.fit.device.stack.spread):.2f}"
    )
    rows = [
        (name, f"{encode.element_s * 1e9:.3g}", f"{decode.element_s * 1e9:.3g}")
        for name, encode, decode in _codecs(found)
    ]
    columns = ("codec", "encode", "decode")
    console().print(table("\nCodecs, ns an element or pixel", columns, rows))
    load = found.background_load
    if load is not None and load > _WORTH_SAYING:
        console().print(
            f"background load: other processes had {100 * load:.0f} % of all processors; what "
            f"several threads gain, and this spread, are those of a machine in use"
        )
    console().print(f"wrote {out}", markup=False)
    say_next(f"vlacut plan MODEL --edge {out} ...")


def _measured_by(found: Calibration, provider: str) -> Iterator[str]:
    """What measured which machine, what was passed over for what reason, and what was left."""
    if found.choice is not None and found.machine is not None:
        on = f", provider {provider}" if provider else ""
        yield f"measured: {found.machine.what}, by {found.choice.backend}{on}"
        yield from (f"not by {said}" for said in found.choice.missing)
    gpu = seen_gpu()
    if gpu is not None and not provider:
        yield f"the GPU, {gpu.name}, is another device: measure it with --provider cuda"


def _codecs(found: Calibration) -> Iterator[tuple[str, CodecSpeed, CodecSpeed]]:
    speeds = found.profile.device.codecs
    if speeds is not None:
        for name, encode in speeds.encode.items():
            yield name, encode, speeds.decode[name]


def _calibration_json(out: Path, found: Calibration, provider: str) -> dict[str, object]:
    parameters = {
        name: {"value": value, "spread": found.fit.deviations[name]}
        for name, value in found.fit.parameters.items()
    }
    return {
        "profile": str(out),
        "measured": list(_measured_by(found, provider)),
        "median_error": _median_error(found),
        "spread": found.fit.device.stack.spread,
        "parameters": parameters,
        "background_load": found.background_load,
        "codecs": {
            name: {"encode": asdict(encode), "decode": asdict(decode)}
            for name, encode, decode in _codecs(found)
        },
    }


def _median_error(found: Calibration) -> float:
    errors = sorted(abs(error) for error in found.fit.errors)
    return errors[len(errors) // 2]
