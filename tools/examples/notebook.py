"""Writes `own_module.ipynb`, a notebook, from `own_module.py`.

    python tools/examples/notebook.py

Cells begin at lines `# %%`; those of `# %% [markdown]` are text. The format is nbformat 4.5's.
"""

import json
import re
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parent / "own_module.py"


def notebook(source: str) -> dict[str, Any]:
    """The notebook of a script."""
    _, *pieces = re.split(r"^# %%(.*)\n", source, flags=re.MULTILINE)
    pairs = zip(pieces[::2], pieces[1::2], strict=True)
    cells = [_cell(number, kind.strip(), body) for number, (kind, body) in enumerate(pairs)]
    about = {"language_info": {"name": "python"}}
    return {"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}


def _cell(number: int, kind: str, body: str) -> dict[str, Any]:
    text = body.strip("\n")
    base = {"id": f"cell-{number}", "metadata": {}}
    if kind:
        text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
        return {"cell_type": "markdown", **base, "source": text.splitlines(keepends=True)}
    code = {"execution_count": None, "outputs": [], "source": text.splitlines(keepends=True)}
    return {"cell_type": "code", **base, **code}


def text_of(source: str) -> str:
    """The file of a script's notebook."""
    return json.dumps(notebook(source), indent=1) + "\n"


if __name__ == "__main__":
    SOURCE.with_suffix(".ipynb").write_text(text_of(SOURCE.read_text()))
