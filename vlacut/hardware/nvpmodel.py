"""Power modes as a Jetson's own `/etc/nvpmodel.conf` sets them.

A file of the board support package first defines parameters with the paths that they are written
to, and then, for every power mode, their values:

    < PARAM TYPE=CLOCK NAME=GPU >
    MAX_FREQ /sys/devices/.../max_freq
    < POWER_MODEL ID=2 NAME=MODE_30W >
    TPC_POWER_GATING TPC_PG_MASK 240
    CPU_A78_0 MAX_FREQ 1728000
    GPU MAX_FREQ 612000000
    EMC MAX_FREQ 2133000000

Clocks of the GPU and of the memory (EMC) are in Hz, those of the CPU in kHz; -1, and 0 of the EMC,
mean that there is no cap. A set bit of the mask switches off a TPC, two multiprocessors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vlacut.errors import HardwareError
from vlacut.hardware.profile import Mode, Profile

_SECTION = re.compile(r"<\s*(PARAM|POWER_MODEL|PM_CONFIG)\b(.*)>")
_NAME = re.compile(r"NAME=(\S+)")
_SM_PER_TPC = 2  # of every Jetson since Xavier
_CPU_HZ = 1000  # cpufreq of Linux counts in kHz

Settings = dict[tuple[str, str], int]


def with_power_modes(profile: Profile, path: Path) -> Profile:
    """The profile with the power modes of that file; the profile's own mode stays as it is.

    Watts are kept for the modes that the profile knew before; the file has none.

    Raises HardwareError naming the file if it sets no power modes, or one without a GPU's clock.
    """
    try:
        found = _power_models(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise HardwareError(f"{path}: no nvpmodel configuration: {error}") from error
    if not found or not profile.modes:
        of = profile.device.name if found else path
        raise HardwareError(f"{of} has no power modes; on a Jetson, try /etc/nvpmodel.conf")
    own = profile.modes[profile.mode]
    modes = {name: _mode(name, settings, own, path) for name, settings in found.items()}
    modes[profile.mode] = own
    powers = {name: power for name, power in profile.powers.items() if name in modes}
    return replace(profile, modes=modes, powers=powers)


def _power_models(lines: list[str]) -> dict[str, Settings]:
    """Numbers by parameter and argument, by power mode; other lines are passed over."""
    models: dict[str, Settings] = {}
    settings: Settings | None = None
    for line in lines:
        if section := _SECTION.match(line.strip()):
            name = _NAME.search(section.group(2))
            settings = None
            if section.group(1) == "POWER_MODEL" and name:
                settings = models.setdefault(name.group(1).removeprefix("MODE_"), {})
            continue
        words = line.split()
        if settings is not None and len(words) == 3 and re.fullmatch(r"-?\d+", words[2]):
            settings[words[0], words[1]] = int(words[2])
    return models


def _mode(name: str, settings: Settings, own: Mode, path: Path) -> Mode:
    clocks = {key: value for (key, what), value in settings.items() if what == "MAX_FREQ"}
    gpu = [value for key, value in clocks.items() if key.startswith("GPU") and "NV" not in key]
    if not gpu:
        raise HardwareError(f"{path}: power mode {name} sets no MAX_FREQ of the GPU")
    cpu = [value * _CPU_HZ for key, value in clocks.items() if key.startswith("CPU")]
    off = sum(
        bin(value).count("1") for (_, what), value in settings.items() if what == "TPC_PG_MASK"
    )
    return Mode(
        clock=_capped(min(gpu, key=lambda value: _capped(value, own.clock)), own.clock),
        memory_clock=_capped(_memory(clocks), own.memory_clock),
        host_clock=max((_capped(value, own.host_clock) for value in cpu), default=own.host_clock),
        multiprocessors=own.multiprocessors - _SM_PER_TPC * off,
        source=f"nvpmodel configuration {path.name}: {name}",
    )


def _memory(clocks: Mapping[str, int]) -> int:
    return next((value for key, value in clocks.items() if key.startswith("EMC")), 0)


def _capped(value: float, most: float) -> float:
    return min(value, most) if value > 0 else most
