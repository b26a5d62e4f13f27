# Sourced by tools/demo and tools/test: makes .venv in the repository root, with the versions that
# tools/requirements.txt pins and vlacut itself in editable form. Quick when nothing changed.
set -eu
cd "$(dirname "$0")/.."

find_python() {
    for name in python3.11 python3.12 python3.13 python3; do
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null
        then
            echo "$name"
            return
        fi
    done
    echo "vlacut: the compiler needs Python 3.11 to 3.13, and none is on PATH" >&2
    exit 1
}

make_venv() {
    .venv/bin/python -c "" 2>/dev/null && return
    python=$(find_python)
    rm -rf .venv
    "$python" -m venv .venv 2>/dev/null && return
    # Debian ships venv apart from Python.
    package="$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    echo "vlacut: $python cannot make a virtual environment; installing $package" >&2
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    $sudo apt-get update -qq && $sudo apt-get install -y -qq "$package" >/dev/null || {
        echo "vlacut: install $package, then run this again" >&2
        exit 1
    }
    rm -rf .venv
    "$python" -m venv .venv
}

wanted=$(cat pyproject.toml tools/requirements.txt tools/setup.sh | sha256sum)
if [ "$(cat .venv/.installed 2>/dev/null)" != "$wanted" ]; then
    echo "vlacut: setting up .venv (once; about a minute on a fast network)" >&2
    make_venv
    pip=".venv/bin/python -m pip --disable-pip-version-check --quiet"
    $pip install --requirement tools/requirements.txt
    $pip install --no-deps --no-build-isolation --editable .
    echo "$wanted" > .venv/.installed
fi
