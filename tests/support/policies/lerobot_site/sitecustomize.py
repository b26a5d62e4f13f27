"""LeRobot beside a PyTorch without CUDA: on PYTHONPATH, Python imports this when it starts.

torchvision's wheel of the index wants operators of its CUDA build to be there, and LeRobot imports
data sets, cameras and viewers that a policy runs without.
"""

import sys
from pathlib import Path

if Path(sys.prefix).name == ".venv-lerobot":
    from torch import library

    _library = library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    sys.path.append(str(Path(__file__).parents[3]))
    from support import lerobot_stubs

    lerobot_stubs.STUBBED = (
        *("av", "datasets", "deepdiff", "imageio", "rerun", "serial"),
        "lerobot.policies.groot",
    )
    lerobot_stubs._Module.__version__ = "99.0"
    lerobot_stubs._Module.__path__ = []
    sys.meta_path.insert(0, lerobot_stubs._Finder())
