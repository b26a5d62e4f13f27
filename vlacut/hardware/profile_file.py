"""Profiles as TOML, those of the package and those of users.

name = "a100"
mode = "400W"                       # what the figures below hold for; if there are modes
stack = "eager"                     # what a bare name means
memory_bandwidth = 2.039e12         # bytes/s
memory_bytes = 80e9
cache_bytes = 40e6
cache_bandwidth = 5e12
multiprocessors = 108
[peak]                              # dense FLOP/s by element type
float32 = 19.5e12
bfloat16 = 312e12
reserve_bytes = 4e9                 # may be left out: none is
[cuda]                              # the attributes of `Cuda`, where it has it
sm = 80
oldest = "10.3"
newest = "11.4"
[source]                            # a line for every figure above, and one for cuda
memory_bandwidth = "..."
[modes.400W]                        # the attributes of `Mode`
clock = 1.41e9
...
[stacks.eager]                      # the attributes of `Stack`
launch_s = 2e-6
...
[power]                             # may be left out: then nothing is minimised for energy
idle_w = 9.0                        # the attributes of `Power`
up_j_per_byte = 2.3e-6
down_j_per_byte = 1.1e-6
source = "..."
[power.busy_w]                      # by mode; without modes, of the one mode `own`
400W = 400.0
[codecs]                            # may be left out: then they take what a server's take
source = "..."
[codecs.encode.int8]                # the attributes of `CodecSpeed`; of jpeg for every quality
call_s = 12.7e-6
element_s = 0.47e-9
[codecs.encode.int8.conversion_s]
float64 = 0.2e-9
[codecs.decode.int8]
...
[stacks.tensorrt]
like = "h100"                       # of that profile's tensorrt, what is not given here
source = "..."

A profile may take from another only what that one gives itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vlacut.errors import HardwareError, suggestion
from vlacut.hardware.codec_speed import CodecSpeed, CodecSpeeds
from vlacut.hardware.device import Cuda, Device
from vlacut.hardware.power import Power
from vlacut.hardware.profile import Mode, Profile
from vlacut.hardware.stack import Stack

_OWN = "own"  # the mode of a profile without modes
_PROFILES = Path(__file__).parent / "profiles"
_FIGURES = (
    "memory_bandwidth",
    "memory_bytes",
    "cache_bytes",
    "cache_bandwidth",
    "multiprocessors",
)


def device_names() -> tuple[str, ...]:
    """Names of the profiles in the package, sorted."""
    return tuple(sorted(path.stem for path in _PROFILES.glob("*.toml")))


def load_device(text: str) -> Device:
    """The device that NAME[@MODE][+STACK] names; see `vlacut.hardware.device`.

    Raises HardwareError with the nearest names if there is none, or naming the bad figure.
    """
    folder, slash, last = text.rpartition("/")
    rest, _, stack = last.partition("+")
    name, _, mode = rest.partition("@")
    return load_profile(folder + slash + name).select(mode, stack)


def load_profile(name: str) -> Profile:
    """The profile of that name in the package, or of that TOML file.

    Raises HardwareError with the nearest names if there is none, or naming the bad figure.
    """
    own = name.endswith(".toml")
    path = Path(name) if own else _PROFILES / f"{name}.toml"
    if not path.is_file():
        wrong = f"no such file: {name}" if own else f"unknown device {name!r}"
        raise HardwareError(f"{wrong}; {suggestion(name, device_names(), cutoff=0.3)}")
    return _read_profile(path) if own else _packaged(path)


@cache  # what the package ships does not change while a process runs; a compile asks eight times
def _packaged(path: Path) -> Profile:
    return _read_profile(path)


def _read_profile(path: Path) -> Profile:
    return _profile(_Table(str(path), _read(path)))


def profile_text(profile: Profile) -> str:
    """The profile as TOML that `load_profile` reads back."""
    import tomli_w  # with the compiler's dependencies; the robot writes no profile

    device = profile.device
    table: dict[str, Any] = {"name": device.name, "stack": device.stack.name}
    table |= {"mode": profile.mode} if profile.modes else {}
    table |= {name: getattr(device, name) for name in _FIGURES}
    table |= {"reserve_bytes": device.reserve_bytes} if device.reserve_bytes else {}
    table |= {"peak": dict(device.peak), "source": dict(device.source)}
    if profile.powers:
        table["power"] = _power_table(profile.powers)
    table |= {"cuda": asdict(device.cuda)} if device.cuda else {}
    table |= {"codecs": asdict(device.codecs)} if device.codecs else {}
    table["modes"] = {name: asdict(mode) for name, mode in profile.modes.items()}
    table["stacks"] = {name: _stack_table(stack) for name, stack in profile.stacks.items()}
    return tomli_w.dumps(table)


def _power_table(powers: Mapping[str, Power]) -> dict[str, Any]:
    table = asdict(next(iter(powers.values())))
    return table | {"busy_w": {mode or _OWN: power.busy_w for mode, power in powers.items()}}


def _stack_table(stack: Stack) -> dict[str, Any]:
    return {name: figure for name, figure in vars(stack).items() if name != "name"}


@dataclass(frozen=True)
class _Table:
    """A table of a profile; its errors name the file and the key."""

    path: str
    values: Mapping[str, Any]

    def number(self, key: str) -> float:
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise HardwareError(f"{self.path}: {key} is {value!r}, must be a number")
        return float(value)

    def numbers(self) -> dict[str, float]:
        return {key: self.number(key) for key in self.values}

    def text(self, key: str) -> str:
        value = self.values.get(key)
        if not isinstance(value, str):
            raise HardwareError(f"{self.path}: {key} is {value!r}, must be a text")
        return value

    def table(self, key: str) -> _Table:
        value = self.values.get(key, {})
        if not isinstance(value, Mapping):
            raise HardwareError(f"{self.path}: {key} is {value!r}, must be a table")
        return _Table(f"{self.path}: [{key}]", value)

    def tables(self) -> list[tuple[str, _Table]]:
        return [(key, self.table(key)) for key in self.values]


def _profile(table: _Table) -> Profile:
    stacks = {key: _stack(key, part) for key, part in table.table("stacks").tables()}
    modes = {key: _mode(part) for key, part in table.table("modes").tables()}
    source = {key: str(line) for key, line in table.table("source").values.items()}
    given = [name for name in ("reserve_bytes", "cuda") if name in table.values]
    missing = [figure for figure in (*_FIGURES, *given, "peak") if figure not in source]
    if missing:
        raise HardwareError(f"{table.path}: [source] lacks {', '.join(missing)}")
    if table.text("stack") not in stacks:
        raise HardwareError(f"{table.path}: stack must be one of [stacks]")
    device = Device(
        name=table.text("name"),
        peak=table.table("peak").numbers(),
        memory_bandwidth=table.number("memory_bandwidth"),
        memory_bytes=int(table.number("memory_bytes")),
        cache_bytes=int(table.number("cache_bytes")),
        cache_bandwidth=table.number("cache_bandwidth"),
        multiprocessors=int(table.number("multiprocessors")),
        stack=stacks[table.text("stack")],
        source=source,
        reserve_bytes=int(table.number("reserve_bytes")) if "reserve_bytes" in given else 0,
        cuda=_cuda(table.table("cuda")) if "cuda" in given else None,
        codecs=_codecs(table.table("codecs")) if "codecs" in table.values else None,
    )
    powers = _powers(table.table("power"), modes) if "power" in table.values else {}
    return Profile(device, table.text("mode") if modes else "", modes, stacks, powers)


def _powers(table: _Table, modes: Mapping[str, Mode]) -> dict[str, Power]:
    """What is drawn, by mode; for a profile without modes, under an empty name."""
    busy = table.table("busy_w")
    known = tuple(modes) or (_OWN,)
    unknown = [name for name in busy.values if name not in known]
    if unknown:
        raise HardwareError(f"{busy.path}: no mode {unknown[0]!r}; there are {', '.join(known)}")
    return {
        "" if name == _OWN else name: Power(
            busy_w=busy.number(name),
            idle_w=table.number("idle_w"),
            up_j_per_byte=table.number("up_j_per_byte"),
            down_j_per_byte=table.number("down_j_per_byte"),
            source=table.text("source"),
        )
        for name in busy.values
    }


def _cuda(table: _Table) -> Cuda:
    return Cuda(int(table.number("sm")), table.text("oldest"), table.text("newest"))


def _codecs(table: _Table) -> CodecSpeeds:
    encode, decode = (
        {name: _codec(speed) for name, speed in table.table(way).tables()}
        for way in ("encode", "decode")
    )
    if set(encode) != set(decode):
        odd = ", ".join(sorted(set(encode) ^ set(decode)))
        raise HardwareError(f"{table.path}: {odd} must be in both encode and decode")
    return CodecSpeeds(encode, decode, table.text("source"))


def _codec(table: _Table) -> CodecSpeed:
    more = {name: table.number(name) for name in ("bit_s", "planar_s") if name in table.values}
    conversions = table.table("conversion_s").numbers()
    return CodecSpeed(
        table.number("call_s"), table.number("element_s"), **more, conversion_s=conversions
    )


def _mode(table: _Table) -> Mode:
    return Mode(
        clock=table.number("clock"),
        memory_clock=table.number("memory_clock"),
        host_clock=table.number("host_clock"),
        multiprocessors=int(table.number("multiprocessors")),
        source=table.text("source"),
    )


def _stack(name: str, table: _Table) -> Stack:
    table = _resolved(name, table)
    return Stack(
        name=name,
        fusion=table.text("fusion"),
        tf32=table.values.get("tf32") is True,
        host_s=table.number("host_s"),
        launch_s=table.number("launch_s"),
        half_bytes=table.number("half_bytes"),
        half_tile=table.number("half_tile"),
        half_depth=table.number("half_depth"),
        spread=table.number("spread"),
        compute=table.table("compute").numbers(),
        memory=table.table("memory").numbers(),
        source=table.text("source"),
        overlap=table.number("overlap") if "overlap" in table.values else 1.0,
        packs=table.values.get("packs") is True,
        batch_s=table.number("batch_s") if "batch_s" in table.values else 0.0,
        call_s=table.number("call_s") if "call_s" in table.values else 0.0,
        launch=table.table("launch").numbers(),
        wake_s=table.number("wake_s") if "wake_s" in table.values else 0.0,
        speedup=table.table("speedup").numbers(),
        depth=table.table("depth").numbers(),
        rows=table.table("rows").numbers(),
    )


def _resolved(name: str, table: _Table) -> _Table:
    """The table with what it leaves out taken from the profile that `like` names."""
    if "like" not in table.values:
        return table
    other = load_profile(table.text("like")).stacks
    if name not in other:
        raise HardwareError(f"{table.path}: {table.text('like')} has no stack {name!r}")
    return _Table(table.path, {**_stack_table(other[name]), **table.values})


def _read(path: Path) -> Mapping[str, Any]:
    import tomllib  # the robot's Python 3.10 lacks it, and reads no profile

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HardwareError(f"{path}: not TOML: {error}") from error
