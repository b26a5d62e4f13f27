"""A bundle as a node of ROS 2.

    python -m vlacut.integrations.ros2 --config map.yaml

`vlacut.integrations.ros2.wiring` says what the file holds. What is between `--ros-args` and `--`,
or the end, is ROS's: names that are mapped, `use_sim_time`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import vlacut
from vlacut.errors import VlacutError, one_line
from vlacut.integrations.ros2.node import run_node
from vlacut.integrations.ros2.wiring import read_wiring


def main(words: list[str] | None = None) -> int:
    """Run the node; what is wrong is a line on stderr, and the status 1."""
    parser = argparse.ArgumentParser(prog="vlacut.integrations.ros2", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE.yaml")
    ours, theirs = _parted(sys.argv[1:] if words is None else words)
    asked = parser.parse_args(ours)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        wiring = read_wiring(asked.config)
        with vlacut.connect(
            wiring.bundle,
            wiring.cloud or None,
            deadline=wiring.deadline_s,
            tls=wiring.tls or None,
            seed=wiring.seed,
        ) as session:
            run_node(wiring, session, theirs)
    except VlacutError as error:
        sys.stderr.write(f"error: {one_line(error)}\n")
        return 1
    return 0


def _parted(words: list[str]) -> tuple[list[str], list[str]]:
    """Our words, and those of ROS."""
    if "--ros-args" not in words:
        return words, []
    begin = words.index("--ros-args")
    end = words.index("--", begin) if "--" in words[begin:] else len(words)
    return [*words[:begin], *words[end + 1 :]], words[begin:end]


if __name__ == "__main__":
    sys.exit(main())
