"""LeRobot 0.6 for Python 3.11: its few lines in the syntax of 3.12, written as before.

    python lerobot_3_11.py FOLDER       (of the installed package; files are changed in place)

`class X[T]`, `def f[T]` and `type X = ...` are all that it has of it (PEP 695). The tests have the
PyTorch of Python 3.11; a user of LeRobot 0.6 has 3.12.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_ALIAS = re.compile(r"^(\s*)type (\w+) = ", re.MULTILINE)
_HEAD = re.compile(
    r"^(?P<word>\s*(?:class|def) \w+)\[(?P<names>[^\]]+)\](?P<bases>\(.*\))?(?P<rest>.*)$",
    re.MULTILINE,
)
_FIRST = re.compile(r"^(@|class |def )", re.MULTILINE)


def rewritten(text: str) -> str:
    """The text of a module without PEP 695."""
    names: dict[str, None] = {}

    def head(found: re.Match[str]) -> str:
        own = [one.partition(":")[0].strip() for one in found["names"].split(",")]
        names.update(dict.fromkeys(own))
        bases = found["bases"] or ""
        if found["word"].lstrip().startswith("class"):
            inside = [one for one in (bases[1:-1], f"_typing.Generic[{', '.join(own)}]") if one]
            bases = f"({', '.join(inside)})"
        return f"{found['word']}{bases}{found['rest']}"

    text = _HEAD.sub(head, _ALIAS.sub(r"\1\2 = ", text))
    first = _FIRST.search(text)
    if not names or first is None:
        return text
    made = "".join(f'{name} = _typing.TypeVar("{name}")\n' for name in names)
    return f"{text[: first.start()]}import typing as _typing\n{made}\n\n{text[first.start() :]}"


if __name__ == "__main__":
    for file in Path(sys.argv[1]).rglob("*.py"):
        before = file.read_text(encoding="utf-8")
        if (after := rewritten(before)) != before:
            file.write_text(after, encoding="utf-8")
