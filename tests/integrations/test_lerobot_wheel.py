"""The plugin's wheel: what LeRobot looks for is what it is called."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.foreign import LEROBOT_PLUGIN


@pytest.mark.slow  # a build in a process of its own
def test_the_plugin_s_wheel_is_a_distribution_that_lerobot_imports(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(words, cwd=LEROBOT_PLUGIN, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        files = opened.namelist()
        [metadata] = [name for name in files if name.endswith("METADATA")]
        said = opened.read(metadata).decode()
    # LeRobot imports every distribution whose name begins so, with underscores.
    assert "\nName: lerobot_policy_vlacut\n" in said
    for name in ("__init__", "configuration_vlacut", "modeling_vlacut", "processor_vlacut"):
        assert f"lerobot_policy_vlacut/{name}.py" in files
    assert "lerobot_policy_vlacut/first_look.py" in files
