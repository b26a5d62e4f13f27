"""Stand-ins for the libraries of CUDA, so that a PyTorch built for it can be imported without them.

On the package index older releases for Linux are built for CUDA alone, and ask for 2.5 GB of its
libraries that a trace on the processor never calls. Every symbol that torch's libraries want of a
library that is not there becomes a function that says: no device.
"""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from pathlib import Path

_NO_DEVICE = 100  # cudaErrorNoDevice
_TEXT = re.compile(r"Error(String|Name)$")  # what an error is called, for people
_NEEDED = re.compile(r"\(NEEDED\).*\[(.+)\]")
_SYMBOL = re.compile(
    r"^\s*\d+: \S+\s+\S+\s+(\w+)\s+(GLOBAL|WEAK)\s+\S+\s+(\S+)\s+([\w$.]+)(?:@@?(\S+))?"
)
_OF_THE_SYSTEM = re.compile(
    r"lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+|util|gomp|ld-linux.*)\.so.*|ld-.*"
)


def make_stubs(torch: Path, out: Path) -> None:
    """Write stand-ins into `out` for what the libraries of a torch folder need and nobody has."""
    out.mkdir()
    libraries = sorted((torch / "lib").glob("*.so*"))
    held = {library.name for library in libraries}
    missing: dict[str, set[str]] = {}
    wanted: set[tuple[str, str]] = set()
    defined: set[str] = set()
    for library in libraries:
        for name in _NEEDED.findall(_readelf("-dW", library)):
            if name not in held and not _OF_THE_SYSTEM.fullmatch(name):
                missing.setdefault(name, set())
        for line in _readelf("--dyn-syms", "-W", library).splitlines():
            match = _SYMBOL.match(line)
            if match is None:
                continue
            _, binding, place, symbol, version = match.groups()
            if place != "UND":
                defined.add(symbol)
            elif binding == "GLOBAL" and not (version or "").startswith(
                ("GLIBC", "GCC", "CXX", "GOMP", "OMP")
            ):
                wanted.add((symbol, (version or "").strip("()")))
    by_library: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for symbol, version in sorted(wanted):
        if symbol not in defined:
            by_library[version if version in missing else min(missing)].append((symbol, version))
    for name in missing:
        _compile(out / name, by_library[name])


def _readelf(*words: str | Path) -> str:
    return subprocess.run(["readelf", *words], capture_output=True, text=True, check=True).stdout


def _compile(out: Path, symbols: list[tuple[str, str]]) -> None:
    asked = {"cuInit"} if out.name.startswith("libcuda.so") else set()  # as a driver is, by name
    names = sorted({symbol for symbol, _ in symbols} | asked)
    source = "".join(map(_function, names))
    flags = ["-shared", "-fPIC", "-w", f"-Wl,-soname,{out.name}"]
    versions = sorted({version for _, version in symbols if version})
    if versions:
        script = out.with_suffix(".map")
        nodes = [
            f"{each} {{ global: {' '.join(f'{s};' for s, v in symbols if v == each)} }};\n"
            for each in versions
        ]
        script.write_text("".join(nodes))
        flags.append(f"-Wl,--version-script={script}")
    subprocess.run(
        ["gcc", "-x", "c", "-", *flags, "-o", str(out)], input=source, text=True, check=True
    )


def _function(name: str) -> str:
    """In C: says that there is no device, as a number, or as a text where it is asked for one."""
    if _TEXT.search(name):
        return f'const char *{name}() {{ return "no device"; }}\n'
    return f"int {name}() {{ return {_NO_DEVICE}; }}\n"
