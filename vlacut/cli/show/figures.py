"""Figures in files: made before the work that they show, so that what is wrong is said at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vlacut.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def make_figure(path: Path, width: float, height: float) -> Figure:
    """An empty figure for a file, `width` by `height` inches.

    Raises InputError without matplotlib, for a kind of file that it cannot write, or where there is
    no such folder.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("--plot needs matplotlib: pip install 'vlacut[plot]'") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    kinds = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in kinds:
        raise InputError(f"cannot write the plot {path}: its name must end in .{', .'.join(kinds)}")
    if not path.parent.is_dir():
        raise InputError(f"cannot write the plot {path}: there is no folder {path.parent}")
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write it. Raises InputError where that is not possible."""
    try:
        figure.savefig(path)
    except OSError as error:
        raise InputError(f"cannot write the plot {path}: {error}") from error
