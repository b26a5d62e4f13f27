"""What the extra `compile` takes of PyTorch and transformers, and whether that works."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "check_versions.py"


def test_it_reads_what_the_extra_takes() -> None:
    spec = importlib.util.spec_from_file_location("check_versions", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(script)
    sys.path[:] = path
    assert script.takes(torch=version("torch").partition("+")[0])
    assert script.takes(transformers=version("transformers"))
    assert not script.takes(torch="2.0.1")
    assert not script.takes(transformers="4.30.0")


@pytest.mark.slow
def test_the_tracing_tests_pass_on_every_pair_that_it_takes() -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stderr
