"""A bundle as a node of ROS 2.

    python -m vlacut.integrations.ros2 --config map.yaml

`vlacut.integrations.ros2.wiring` says what the file holds.
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
    asked, _ = parser.parse_known_args(words)  # `ros2 launch` adds arguments of ROS's
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
            run_node(wiring, session)
    except VlacutError as error:
        sys.stderr.write(f"error: {one_line(error)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
