# %% [markdown]
# # A policy of your own
#
# A module and example inputs are enough. vlacut traces it, prices every operator on both machines,
# cuts it where a control step is proven quickest, and serves and drives both halves.

# %%
import tempfile
import threading
from pathlib import Path

import torch
from torch import nn

import vlacut

torch.manual_seed(0)
policy = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 128), nn.ReLU(), nn.Linear(128, 7))
image = torch.rand(1, 3, 64, 64)

# %% [markdown]
# What would it cost, and where? The link decides: tell the one you have.

# %%
print(
    vlacut.plan(
        policy, (image,), edge="jetson-agx-orin", cloud="a100", link="100MB/s,1ms"
    ).plan.summary()
)

# %% [markdown]
# A bundle holds both halves. Here the last layer is pinned to the cloud, so that there is something
# to send; leave `pin` out and the plan is the quickest.

# %%
folder = Path(tempfile.mkdtemp())
bundle = vlacut.compile(
    policy,
    (image,),
    edge="jetson-agx-orin",
    cloud="a100",
    link="100MB/s,1ms",
    pin=["3=cloud"],
    out=folder / "p.vlacut",
)
print(bundle.manifest.model_check)

# %% [markdown]
# The server runs on the GPU machine, the session on the robot; here both are in this process.

# %%
server = vlacut.serve(folder / "p.vlacut", port=0)
threading.Thread(target=server.serve_forever).start()
with vlacut.connect(folder / "p.vlacut", "{}:{}".format(*server.address)) as robot:
    action = robot.step({"input": image.numpy()})
    print(robot.last.summary())
server.shutdown()

# %% [markdown]
# It is the same as the module's own action.

# %%
expected = policy(image).detach().numpy()
(name,) = action
print(f"largest difference: {abs(action[name] - expected).max():.1g}")
assert abs(action[name] - expected).max() < 1e-5
