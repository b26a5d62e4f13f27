"""Every room says what it is for, what it may import and what is public; and that is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import vlacut
import vlacut_passes

ROOTS = Path(vlacut.__path__[0]), Path(vlacut_passes.__path__[0])
ROOMS = sorted(
    path.parent for root in ROOTS for path in root.rglob("__init__.py") if path.parent not in ROOTS
)


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_a_room_says_what_is_in_it(room: Path) -> None:
    said = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
    assert "May import: " in said, f"{room} does not say what it may import"
    _, _, public = said.partition("Public: ")
    assert public, f"{room} does not say what is public"
    if "`__all__`" in public:
        return
    named = set(re.findall(r"`(\w+)`", public))
    assert named, f"{room} names nothing"
    assert named <= defined(room), f"{room} has no {named - defined(room)}"


def defined(room: Path) -> set[str]:
    """Names at the top of a room's modules."""
    names: set[str] = set()
    for path in room.glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                names.add(node.name)
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    parts = target.elts if isinstance(target, ast.Tuple) else [target]
                    names |= {part.id for part in parts if isinstance(part, ast.Name)}
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(node.target.id)
    return names
