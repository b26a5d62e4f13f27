"""A recorded run as a file of Rerun's viewer (rerun.io), on the time of the run."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vlacut.bundle.staging import write_file
from vlacut.errors import InputError
from vlacut.runtime.edge.recorded import Run


def write_rerun(out: Path, run: Run) -> None:
    """Write latency, age, expected bandwidth, variant and source of every step.

    Raises InputError without rerun-sdk, OSError where the file cannot be written.
    """
    try:
        import rerun
    except ImportError as error:
        raise InputError("--rerun needs rerun-sdk: pip install 'vlacut[rerun]'") from error
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "run.rrd"
        recording = rerun.RecordingStream("vlacut")
        recording.save(made)
        seconds = (run.began_ns - run.began_ns[0]) * 1e-9
        numbers = {
            "latency_ms": run.latency_s * 1e3,
            "age_ms": run.age_s * 1e3,
            "expected/up_mbyte_per_s": run.expected[:, 0] / 1e6,
            "variant": run.variant,
        }
        for step, at in enumerate(seconds.tolist()):
            recording.set_time("step", sequence=step)
            recording.set_time("time", duration=at)
            for name, values in numbers.items():
                recording.log(name, rerun.Scalars(float(values[step])))
            why = f": {run.reason[step]}" if run.reason[step] else ""
            said = f"{run.source[step]}, {run.variants[run.variant[step]]}{why}"
            recording.log("source", rerun.TextLog(said))
        recording.flush()
        recording.disconnect()
        write_file(out, made.read_bytes())
