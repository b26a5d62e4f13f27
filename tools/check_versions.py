"""Which versions of PyTorch and transformers the compile half works with: tracing tests on each.

Every pair gets an environment of its own: this one's packages, with the pair's before them. Where a
wheel of PyTorch needs CUDA's libraries, stand-ins are made for them, since nothing runs there on a
GPU. Ends with an error where tests fail on a pair that the extra `compile` of pyproject.toml takes.

    python tools/check_versions.py [--pair 2.13.0,5.23.0]... [--only EXPRESSION]
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import PathDistribution
from pathlib import Path

import tomllib
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

# From a module to a program and back: exporting, noise, the comparison with the module, the zoo.
SELECTION = (
    "tests/frontends/test_torch.py",
    "tests/frontends/test_noise.py",
    "tests/compiler/test_model_check.py",
)
PAIRS = ("2.13.0,4.57.1", "2.13.0,5.0.0", "2.13.0,5.23.0", "2.14.1,5.23.0")
BESIDE = ("huggingface-hub", "tokenizers")  # transformers says which of these go with it


def main() -> None:
    """A line for each pair: what passed, and whether the extra takes it; below it what failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pair", action="append", metavar="TORCH,TRANSFORMERS")
    parser.add_argument("--only", default="", metavar="EXPRESSION", help="as pytest's -k")
    chosen, wrong = parser.parse_args(), []
    for pair in chosen.pair or PAIRS:
        torch, transformers = pair.split(",")
        taken = takes(torch=torch, transformers=transformers)
        with tempfile.TemporaryDirectory(prefix="versions-") as folder:
            said, failed = tried(Path(folder), torch, transformers, chosen.only)
        how = "taken" if taken else "not taken"
        print(f"torch {torch}, transformers {transformers} ({how}): {said}", flush=True)
        print("".join(f"    {line}\n" for line in failed), end="", flush=True)
        if taken and failed:
            wrong.append(pair)
    if wrong:
        sys.exit(f"pyproject.toml takes what fails: {', '.join(wrong)}")


def takes(**versions: str) -> bool:
    """Whether the extra `compile` takes these versions of packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = map(Requirement, project["optional-dependencies"]["compile"])
    return all(
        pin.specifier.contains(versions.get(pin.name, ""), True)
        for pin in pins
        if pin.name in versions
    )


def tried(folder: Path, torch: str, transformers: str, only: str) -> tuple[str, list[str]]:
    """What the tests say with these versions: their last line, and the lines of what failed."""
    python, site = environment(folder)
    install(python, "--no-deps", f"torch=={torch}", f"transformers=={transformers}")
    for found in site.glob("transformers-*.dist-info"):
        needs = map(Requirement, PathDistribution(found).requires or ())
        install(
            python,
            *(
                f"{one.name}{one.specifier}"
                for one in needs
                if one.name in BESIDE and one.marker is None
            ),
        )
    variables = dict(os.environ)
    if list((site / "torch" / "lib").glob("libtorch_cuda*.so")):
        from support.cuda_stubs import make_stubs  # type: ignore[import-not-found]

        make_stubs(site / "torch", folder / "stubs")
        variables["LD_LIBRARY_PATH"] = str(folder / "stubs")
    words = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", only, *SELECTION]
    done = subprocess.run(words, cwd=ROOT, env=variables, capture_output=True, text=True)
    lines = done.stdout.splitlines() or done.stderr.splitlines() or [""]
    failed = [line for line in lines if re.match("(FAILED|ERROR) ", line)]
    return lines[-1], failed or (lines[-1:] if done.returncode else [])


def environment(folder: Path) -> tuple[Path, Path]:
    """An environment on top of this one: its Python, and where packages of its own go."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (site,) = (folder / "venv" / "lib").glob("python3.*/site-packages")
    below = [path for path in sys.path if path.endswith("site-packages")]
    lines = [f"import site; site.addsitedir({path!r})\n" for path in below]  # behind its own
    (site / "below.pth").write_text("".join(lines), encoding="utf-8")
    return folder / "venv" / "bin" / "python", site


def install(python: Path, *words: str) -> None:
    """Install packages there, if they are not there already."""
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, *words], check=True)


if __name__ == "__main__":
    main()
