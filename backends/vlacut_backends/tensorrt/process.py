"""Asks a worker, and survives it."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from typing import IO, Any

from vlacut.errors import BackendError, Progress

_COMMAND = [sys.executable, "-m", "vlacut_backends.tensorrt.worker"]
_REMEMBERED = 3

_log = logging.getLogger("vlacut.tensorrt")


def ask_worker(request: dict[str, Any], what: str, progress: Progress) -> dict[str, Any]:
    """The answer of a worker to a request on `what`; see `worker` for both.

    The worker and what it started are killed if this is interrupted, and when this process ends.
    Raises BackendError with its reason, or with TensorRT's last words if it crashed.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        try:
            answer, said = _converse(process, request, progress)
            status = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        finally:
            assert process.stdout is not None
            process.stdout.close()
        if "error" in answer:
            raise BackendError(" ".join([str(answer["error"]), *_quoted(said)]))
        if not answer:
            raise BackendError(_epitaph(what, status, _quoted(said) or _quoted(_tail(errors))))
    return answer


def _converse(
    process: subprocess.Popen[str], request: dict[str, Any], progress: Progress
) -> tuple[dict[str, Any], list[str]]:
    """The answer, empty if there was none, and the last of TensorRT's errors and warnings."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.close()
    except BrokenPipeError:
        return {}, []  # it is dead already: its status says more
    said: deque[str] = deque(maxlen=_REMEMBERED)
    answer: dict[str, Any] = {}
    for text in process.stdout:
        line = json.loads(text)
        if "phase" in line:
            progress(line["phase"], line["done"], line["total"])
        elif "log" in line:
            _log.log(line["level"], "%s", line["log"])
            if line["level"] >= logging.WARNING:
                said.append(line["log"])
        else:
            answer = line
    return answer, list(said)


def _epitaph(what: str, status: int, words: list[str]) -> str:
    if status < 0:
        try:
            how = f"crashed ({signal.Signals(-status).name})"
        except ValueError:
            how = f"crashed (signal {-status})"
        if -status == signal.SIGKILL:
            how = "was killed, as Linux does when memory is short"
    else:
        how = f"ended with status {status}"
    said = " ".join(words) or "It said nothing."
    return (
        f"{what}: the process that builds {how}; nothing was kept, the engines built before are. "
        f"{said} Build the rest once more, or with --via trtexec"
    )


def _quoted(lines: list[str]) -> list[str]:
    return [f"Last words: {' | '.join(line.strip() for line in lines)}."] if lines else []


def _tail(file: IO[bytes]) -> list[str]:
    file.seek(max(0, file.seek(0, os.SEEK_END) - 2000))
    lines = file.read().decode(errors="replace").splitlines()
    return [line for line in lines if line.strip()][-1:]
