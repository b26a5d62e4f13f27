"""A server of two bundles: each is loaded for its first robot, and a robot steps the one it needs.

python tools/examples/two_bundles.py
"""

import tempfile
import threading
from pathlib import Path

import torch
from torch import nn

import vlacut

SIZES = {"pick": 32, "sort": 48}


def main() -> None:
    """Compile two policies, serve both on one address, and step each."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        bundles = {name: Path(folder) / f"{name}.vlacut" for name in SIZES}
        for name, size in SIZES.items():
            net = nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, 64), nn.Linear(64, 7))
            vlacut.compile(
                net,
                (torch.rand(1, 3, size, size),),
                edge="jetson-agx-orin",
                cloud="a100",
                link="1GB/s,0.1ms",
                pin=["*=cloud"],
                out=bundles[name],
            )
        server = vlacut.serve([*bundles.values()], port=0)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            for name, size in SIZES.items():
                with vlacut.connect(bundles[name], "{}:{}".format(*server.address)) as robot:
                    made = robot.step({"input": torch.rand(1, 3, size, size).numpy()})
                    shapes = {key: array.shape for key, array in made.items()}
                    print(name, shapes, robot.last.source)
        finally:
            server.shutdown()
            serving.join()


if __name__ == "__main__":
    main()
