"""Own policies from the command line: each ends with the module check's line, the wrong one not."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import policies
from support.commands import Vlacut

FOLDER = Path(policies.__file__).parent
TARGET = ("--edge", "jetson-agx-orin", "--cloud", "a100", "--link", "1GB/s,0.1ms", "--no-cache")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["old_policy.py:whole", "new_user.py:llm", "new_user.py:glued"])
def test_a_policy_is_held_to_its_module(model: str, vlacut: Vlacut, tmp_path: Path) -> None:
    """Two cameras, language and an LSTM's state; seven tokens with a cache; PaliGemma."""
    status, out, err = vlacut("compile", FOLDER / model, *TARGET, "-o", tmp_path / "b")
    assert status == 0, err
    assert "against your PyTorch module: largest difference" in out
    status, out, _ = vlacut("verify", tmp_path / "b")
    assert status == 0
    assert "your PyTorch module and the uncut program, when compiled" in out


@pytest.mark.slow
def test_the_one_that_is_traced_wrongly_is_refused(vlacut: Vlacut, tmp_path: Path) -> None:
    status, _, err = vlacut("compile", FOLDER / "new_user.py:wrong", *TARGET, "-o", tmp_path / "b")
    assert status == 1
    assert "wrong is not your PyTorch module: main/hidden differs by" in err
    assert not (tmp_path / "b").exists()
