"""Profile: a device in all its power modes, with all its software stacks.

In another mode, peak rates scale with clock x multiprocessors, bandwidth with memory_clock, and
the host's seconds and those of codecs with 1 / host_clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vlacut.errors import HardwareError
from vlacut.hardware.device import Device
from vlacut.hardware.power import Power
from vlacut.hardware.stack import Stack


@dataclass(frozen=True)
class Mode:
    """A power mode.

    Attributes:
        clock: the multiprocessors' clock, in Hz.
        memory_clock: the memory's clock, in Hz.
        host_clock: the clock of the CPU that issues the kernels, in Hz.
        multiprocessors: how many are on.
        source: where the figures are from.

    Raises HardwareError for a figure that is not above 0.
    """

    clock: float
    memory_clock: float
    host_clock: float
    multiprocessors: int
    source: str

    def __post_init__(self) -> None:
        if min(self.clock, self.memory_clock, self.host_clock, self.multiprocessors) <= 0:
            raise HardwareError("a power mode's clocks and multiprocessors must be above 0")


@dataclass(frozen=True)
class Profile:
    """A device as its file describes it.

    Attributes:
        device: in the profile's own mode, with its own stack.
        mode: the profile's own mode; empty where it has none.
        modes: all power modes, by name.
        stacks: all software stacks, by name.
        powers: what it draws, by mode; a device without modes has one entry, named "".

    Raises HardwareError if its own mode is none of its modes.
    """

    device: Device
    mode: str
    modes: Mapping[str, Mode]
    stacks: Mapping[str, Stack]
    powers: Mapping[str, Power] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.modes) != (self.mode in self.modes):
            raise HardwareError(f"{self.device.name}: mode must be one of [modes]")

    def mode_names(self) -> tuple[str, ...]:
        """Power modes, the profile's own first."""
        return tuple(sorted(self.modes, key=lambda name: name != self.mode))

    def stack_names(self) -> tuple[str, ...]:
        """Software stacks, the profile's own first."""
        return tuple(sorted(self.stacks, key=lambda name: name != self.device.stack.name))

    def select(self, mode: str = "", stack: str = "") -> Device:
        """The device in a mode, with a stack; empty for the profile's own.

        Raises HardwareError, with what there is, for a name it does not have.
        """
        device, name = self.device, self.device.name
        stack = stack or device.stack.name
        if stack not in self.stacks:
            raise _unknown(f"stack of {name}", stack, tuple(self.stacks))
        if mode and mode not in self.modes:
            raise _unknown(f"power mode of {name}", mode, tuple(self.modes))
        suffix = f"@{mode}" if mode not in ("", self.mode) else ""
        suffix += f"+{stack}" if stack != device.stack.name else ""
        power = self.powers.get(mode or self.mode)
        device = replace(device, name=name + suffix, stack=self.stacks[stack], power=power)
        return _scaled(device, self.modes[self.mode], self.modes[mode]) if mode else device


def _unknown(what: str, name: str, known: tuple[str, ...]) -> HardwareError:
    return HardwareError(f"unknown {what}: {name!r}; it has {', '.join(known) or 'none'}")


def _scaled(device: Device, own: Mode, mode: Mode) -> Device:
    compute = mode.clock * mode.multiprocessors / (own.clock * own.multiprocessors)
    memory = mode.memory_clock / own.memory_clock
    slower = own.host_clock / mode.host_clock
    host_s = device.stack.host_s * slower
    return replace(
        device,
        codecs=device.codecs and device.codecs.scaled(slower),
        peak={dtype: rate * compute for dtype, rate in device.peak.items()},
        memory_bandwidth=device.memory_bandwidth * memory,
        cache_bandwidth=max(device.cache_bandwidth * compute, device.memory_bandwidth * memory),
        multiprocessors=mode.multiprocessors,
        stack=replace(device.stack, host_s=host_s),
    )
