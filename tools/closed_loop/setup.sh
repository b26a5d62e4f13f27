#!/bin/sh
# MuJoCo, and a renderer that needs no display. `MUJOCO_GL=egl` chooses it.
set -eu
cd "$(dirname "$0")/../.."
if ! ldconfig -p | grep -q libEGL.so.1; then
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    $sudo apt-get update -qq && $sudo apt-get install -y -qq libegl1 libgl1-mesa-dri >/dev/null
fi
.venv/bin/python -m pip --disable-pip-version-check --quiet install --no-deps \
    mujoco==4.0.0 mujoco-core==4.0.0 mujoco-studio==4.0.0 glfw pyopengl absl-py
