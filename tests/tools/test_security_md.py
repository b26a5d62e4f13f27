"""What `.github/SECURITY.md` states is held by the tests that it names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CITED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_statement_names_tests_that_exist() -> None:
    text = (ROOT / ".github" / "SECURITY.md").read_text(encoding="utf-8")
    statements = re.split(r"\n(?=- )", text)[1:]
    assert len(statements) > 10
    for statement in statements:
        cited = CITED.findall(statement)
        assert cited, f"no test is named: {statement}"
        for file, name in cited:
            tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
            found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert name in found, f"{file} has no {name}"
