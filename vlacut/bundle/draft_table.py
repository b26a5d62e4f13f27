"""How many drafts of each source are right, as measured on recorded episodes; the file that says.

The file is JSON, the fields of `DraftTable` as they are called. It is made by `vlacut
calibrate-draft` of a bundle that drafts and recorded episodes, and it prices what drafts leave.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vlacut.bundle.serde import from_json, to_json
from vlacut.bundle.staging import write_file
from vlacut.errors import BundleError, InputError, suggestion
from vlacut.tensor.drafts import parse_draft

FORMAT = 1
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class DraftTable:
    """Acceptance of drafts.

    Attributes:
        format: number of the file's format.
        trips: drafts of a step.
        steps: for which there were drafts: all but the first of an episode.
        episodes: that these are of.
        counts: by source (`vlacut.tensor.drafts`), in how many steps 0, 1, ... trips drafts were
            right.

    Raises BundleError where these do not fit together.
    """

    format: int = FORMAT
    trips: int
    steps: int
    episodes: int
    counts: Mapping[str, tuple[int, ...]]

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise BundleError(f"table of drafts: {problem}; make it with calibrate-draft")

    def _problem(self) -> str:
        if self.format != FORMAT:
            return f"not of format {FORMAT}"
        if self.trips < 1 or self.steps < 1 or self.episodes < 1 or not self.counts:
            return "it holds no steps, or no source"
        for source, counts in self.counts.items():
            try:
                parse_draft(source)
            except InputError as error:
                return str(error)
            if len(counts) != self.trips + 1 or min(counts) < 0 or sum(counts) != self.steps:
                return f"the counts of {source} are not those of {self.steps} steps"
        return ""

    def right(self, source: str) -> float:
        """How many drafts of a source are right on average; InputError for one not measured."""
        if source not in self.counts:
            known = list(self.counts)
            raise InputError(
                f"drafts {source!r} were not measured; {suggestion(source, known)}; name it in "
                f"calibrate-draft --sources"
            )
        rights = enumerate(self.counts[source])
        return sum(right * count for right, count in rights) / self.steps


def write_draft_table(path: Path, table: DraftTable) -> None:
    """Write the file."""
    write_file(path, (json.dumps(to_json(table), indent=1, sort_keys=True) + "\n").encode())


def read_draft_table(path: Path) -> DraftTable:
    """What a file holds; BundleError if that is no table of this format."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BundleError(f"{path}: is larger than any table of drafts")
        parsed = json.loads(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: is no table of drafts: {error}") from error
    return from_json(DraftTable, parsed, str(path))
