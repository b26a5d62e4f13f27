"""A server of two policies, each on its port: a robot takes the one that it needs.

python tools/examples/two_bundles.py
"""

import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import nn

import vlacut
from vlacut.runtime.cloud.server import Server

SIZES = {"pick": 32, "sort": 48}


def main() -> None:
    """Compile two policies, serve both, and step each."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        served: dict[str, Server] = {}
        for name, size in SIZES.items():
            net = nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, 64), nn.Linear(64, 7))
            out = Path(folder) / f"{name}.vlacut"
            image = torch.rand(1, 3, size, size)
            vlacut.compile(
                net,
                (image,),
                edge="jetson-agx-orin",
                cloud="a100",
                link="1GB/s,0.1ms",
                pin=["*=cloud"],
                out=out,
            )
            server = served[name] = vlacut.serve(out, port=0)
            serving = threading.Thread(target=server.serve_forever)
            serving.start()
            stack.callback(serving.join)
            stack.callback(server.shutdown)
        for name, size in SIZES.items():
            address = "{}:{}".format(*served[name].address)
            with vlacut.connect(Path(folder) / f"{name}.vlacut", address) as robot:
                made = robot.step({"input": torch.rand(1, 3, size, size).numpy()})
                print(name, {key: array.shape for key, array in made.items()}, robot.last.source)


if __name__ == "__main__":
    main()
