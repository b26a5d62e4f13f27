"""What a command says that a package is missing for: a robot has few of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vlacut.cli.missing import how_to_install

_WITHOUT = """
import sys
sys.modules[{module!r}] = None
sys.argv = ["vlacut", *{words!r}]
from vlacut.cli import main
main()
"""


@pytest.mark.parametrize(
    ("module", "install"),
    [
        ("onnx_ir.passes", "pip install 'vlacut[compile]'"),
        ("torch", "pip install 'vlacut[compile]'"),
        ("ray", "pip install 'vlacut[ray]'"),
        ("prometheus_client", "pip install 'vlacut[metrics]'"),
        ("of_somebody.else", "pip install of-somebody"),
    ],
)
def test_the_extra_that_brings_a_module_is_named(module: str, install: str) -> None:
    assert how_to_install(module) == install


def test_a_command_whose_packages_are_missing_says_what_to_install() -> None:
    words = ["plan", "vit-mlp:tiny", "--edge", "jetson-agx-orin", "--cloud", "a100"]
    script = _WITHOUT.format(module="onnx_ir", words=[*words, "--link", "10MB/s"])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "vlacut: vlacut plan needs onnx_ir: pip install 'vlacut[compile]'\n"
