"""Passes and pipelines: parse, print, run, verify, time.

A pass is a frozen dataclass whose fields are its options; a pipeline is a text:

    simplify,annotate-cost{edge=jetson-agx-orin cloud=a100},partition{link=10MB/s,20ms}

Options are `field=value`, separated by spaces; the field `cloud_budget` is written `cloud-budget`.
A value with spaces, braces or quotes is written as a string of JSON: `pins="left arm.*=edge"`.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from vlacut import registry
from vlacut.errors import PassError, Progress, VlacutError, unwatched
from vlacut.ir import verifier
from vlacut.ir.program import Program

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_ITEM = re.compile(
    rf'\s*([a-z][a-z0-9-]*)\s*(?:\{{((?:[^{{}}"]|{_QUOTED})*)\}})?\s*(?:,|$)', re.DOTALL
)
_OPTION = re.compile(rf'\s*([^\s="]*=)?({_QUOTED}|[^\s"]*)(?:\s+|$)', re.DOTALL)
_BARE = re.compile(r'[^\s{}"]*')
_BOOLEAN = {"true": True, "false": False}


class Pass(Protocol):
    """Annotates or rewrites a program in place.

    A pass is a frozen dataclass. Its fields, of type str, int, float or bool, are its options. The
    class variable `choices` lists the values of options that have few, for completion in shells.
    """

    name: ClassVar[str]

    def run(self, program: Program) -> None:
        """Run the pass. Raises PassError, or an InputError if the user's request is at fault."""


@dataclass(frozen=True)
class Timing:
    """How long a pass took."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Pipeline:
    """Passes in the order in which they run."""

    passes: tuple[Pass, ...]

    def __str__(self) -> str:
        return ",".join(_text(item) for item in self.passes)

    def run(
        self,
        program: Program,
        progress: Progress = unwatched,
        before: Sequence[Timing] = (),
    ) -> tuple[Timing, ...]:
        """Run the passes on the program, in place, with the verifier before and after each.

        `progress` is called with a pass's name, its index and the number of passes; those that ran
        `before`, as part of the same pipeline, count.
        Raises what a pass raises; the message names the pass and those that ran before it.
        """
        verifier.verify(program)
        timings = list(before)
        count = len(before) + len(self.passes)
        for index, item in enumerate(self.passes, len(before)):
            progress(item.name, index, count)
            start = time.perf_counter()
            try:
                item.run(program)
                verifier.verify(program)
            except VlacutError as error:
                error.add_note(f"(in pass {item.name}, after {_ran(timings)})")
                raise
            timings.append(Timing(item.name, time.perf_counter() - start))
        return tuple(timings)


def _ran(timings: Sequence[Timing]) -> str:
    return ", ".join(timing.name for timing in timings) or "no other pass"


def parse_pipeline(text: str) -> Pipeline:
    """The pipeline a text describes; PassError pointing at what does not parse."""
    passes, at = [], 0
    while at < len(text):
        match = _ITEM.match(text, at)
        if match is None:
            raise PassError(
                f"pipeline does not parse at {text[at : at + 20]!r}; write "
                f"pass,pass{{option=value option=value}}"
            )
        passes.append(_make(match.group(1), match.group(2) or ""))
        at = match.end()
    return Pipeline(tuple(passes))


def _make(name: str, options: str) -> Pass:
    kind = registry.load("passes", name)
    fields = {item.name.replace("_", "-"): item for item in dataclasses.fields(kind)}
    chosen: dict[str, Any] = {}
    for key, value in _options(name, options):
        if key not in fields:
            raise PassError(
                f"pass {name} has no option {key or value!r}; its options: "
                f"{', '.join(fields) or 'none'}"
            )
        chosen[fields[key].name] = _value(name, key, value, type(fields[key].default))
    made: Pass = kind(**chosen)
    return made


def _options(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Fields and values, as they are written; a word without `=` has no field."""
    at, text = 0, text.strip()
    while at < len(text):
        match = _OPTION.match(text, at)
        if match is None:
            raise PassError(
                f"pass {name}: {text[at : at + 20]!r} does not parse; write field=value"
            )
        key, value = (match.group(1) or "").removesuffix("="), match.group(2)
        try:
            yield key, json.loads(value) if value.startswith('"') else value
        except ValueError as error:
            raise PassError(f"pass {name}: {value} is no string of JSON: {error}") from error
        at = match.end()


def _value(name: str, key: str, text: str, kind: type) -> object:
    if kind is bool:
        if text not in _BOOLEAN:
            raise PassError(f"pass {name}: {key}={text} must be true or false")
        return _BOOLEAN[text]
    try:
        return kind(text)
    except ValueError as error:
        raise PassError(f"pass {name}: {key}={text} is not {kind.__name__}") from error


def _text(item: Pass) -> str:
    fields = dataclasses.fields(item)  # type: ignore[arg-type]  # every pass is a dataclass
    options = {
        field.name.replace("_", "-"): str(value).lower() if isinstance(value, bool) else str(value)
        for field in fields
        if (value := getattr(item, field.name)) != field.default
    }
    return pass_text(item.name, options)


def pass_text(name: str, options: Mapping[str, str]) -> str:
    """A pass with options, as `parse_pipeline` reads it."""
    written = " ".join(f"{key}={_written(value)}" for key, value in options.items())
    return f"{name}{{{written}}}" if written else name


def _written(value: str) -> str:
    return value if _BARE.fullmatch(value) else json.dumps(value, ensure_ascii=False)
