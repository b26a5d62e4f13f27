"""Engines that were built where they run, and who may have put them there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from vlacut.bundle.engine_records import EngineRecord, find_engine, write_record
from vlacut.errors import BackendError


def test_an_engine_that_anybody_may_have_made_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    folder.mkdir()
    (folder / "key.engine").write_bytes(b"engine")
    record = EngineRecord(
        format=1,
        part="p",
        device="d",
        software="s",
        via="python",
        recipe={},
        nbytes=6,
        sha256=hashlib.sha256(b"engine").hexdigest(),
        seconds=1.0,
        host_bytes=1,
        workspace_bytes=1,
        verified="golden",
        max_error=0.0,
        allowed=0.0,
        device_ms=1.0,
        graph=False,
    )
    write_record(folder / "key.json", record)
    assert find_engine(folder, "key") == record
    for path in (folder, folder / "key.engine", folder / "key.json"):
        mode = path.stat().st_mode
        path.chmod(mode | 0o002)
        with pytest.raises(BackendError, match=f"anybody may write {path}, .*runs as code"):
            find_engine(folder, "key")
        path.chmod(mode | 0o020)  # a group is trusted
        assert find_engine(folder, "key") == record
        path.chmod(mode)
        if os.geteuid() == 0:
            os.chown(path, 12345, 0)
            with pytest.raises(BackendError, match=f"{path} is another user's"):
                find_engine(folder, "key")
            os.chown(path, 0, 0)
    assert find_engine(folder, "key") == record
    (folder / "key.engine").write_bytes(b"other!")
    assert find_engine(folder, "key") is None  # not what was built
