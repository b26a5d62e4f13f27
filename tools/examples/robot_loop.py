"""A robot's loop with a deadline: the cloud goes away, and the robot goes on.

python tools/examples/robot_loop.py
"""

import tempfile
import threading
from collections import Counter
from pathlib import Path

import torch
from torch import nn

import vlacut


def main() -> None:
    """Drive twenty steps, of which the last ten have no cloud."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3072, 512), nn.Tanh(), nn.Linear(512, 7))
    image = torch.rand(1, 3, 32, 32)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "policy.vlacut"
        vlacut.compile(
            net, (image,), out=out, edge="jetson-agx-orin", cloud="a100", link="10GB/s,0us",
            pool="portfolio:100MB", bandwidth="1MB/s-10GB/s",
        )  # fmt: skip
        server = vlacut.serve(out, port=0)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        sources: Counter[str] = Counter()
        with vlacut.connect(out, "{}:{}".format(*server.address), deadline=2.0) as robot:
            for step in range(20):
                if step == 10:  # as if somebody pulled the cable
                    server.shutdown()
                    serving.join()
                robot.step({"input": image.numpy()})
                sources[str(robot.last.source)] += 1
                if robot.last.reason:
                    print(f"step {step}: {robot.last.source}, since {robot.last.reason}")
        print(dict(sources))
        assert sources["chosen"] >= 10  # and the others are the edge's alone


if __name__ == "__main__":
    main()
