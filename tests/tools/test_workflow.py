"""The workflow of `.github` runs what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
JOBS = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))["jobs"]
COMMANDS = [
    (name, step["run"]) for name, job in JOBS.items() for step in job["steps"] if "run" in step
]


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_every_file_that_a_job_names_is_there(name: str, command: str) -> None:
    for word in command.split():
        if re.match(r"(tools|tests)/", word):
            assert (ROOT / word).exists(), f"{name}: {word}"


def test_a_minute_of_each_fuzzer_and_of_random_programs_runs() -> None:
    (chosen,) = (command for name, command in COMMANDS if name == "fuzz" and "pytest" in command)
    assert chosen.endswith("-m slow -k for_a_minute")
    found = [
        file.name
        for file in sorted((ROOT / "tests").rglob("test_*.py"))
        if "_for_a_minute(" in file.read_text(encoding="utf-8") and file != Path(__file__)
    ]
    assert found == ["test_pt2_hostile.py", "test_fuzz.py", "test_random_programs.py"]
