"""LeRobot beside a PyTorch without CUDA: on PYTHONPATH, Python imports this when it starts.

torchvision's wheel of the index wants operators of its CUDA build to be there.
"""

import sys
from pathlib import Path

if Path(sys.prefix).name.startswith(".venv-lerobot"):
    from torch import library

    _library = library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
