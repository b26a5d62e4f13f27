"""Recipes: what they start is a command that there is, and what they show is measured."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from support.deployments import crossing_deployment, served
from support.readme import ROOT

from vlacut.api.metrics import _Counts
from vlacut.api.pack.running import _edge_words
from vlacut.cli.commands import vlacut

RECIPES = ROOT / "tools" / "recipes"
SERVICES = sorted(RECIPES.glob("*.service"))


def unit(path: Path) -> ConfigParser:
    parser = ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


def check_words(words: list[str]) -> None:
    """That a command of vlacut, or a pack, takes these words."""
    program, *rest = words
    if program.endswith("vlacut"):
        command = vlacut.get_command(click.Context(vlacut), rest[0])
        assert command is not None
        command.make_context(rest[0], rest[1:])
    else:
        assert rest[0].endswith("robot.vlacut")
        _edge_words().parse_args(rest[1:])


def entry_point(path: Path) -> list[str]:
    (line,) = re.findall(r"^ENTRYPOINT (.*)$", path.read_text(), re.MULTILINE)
    words: list[str] = json.loads(line)
    return words


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_a_unit_starts_a_command(path: Path) -> None:
    parsed = unit(path)
    assert {"Unit", "Service", "Install"} == set(parsed.sections())
    check_words(parsed["Service"]["ExecStart"].split())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_systemd_takes_a_unit(path: Path, tmp_path: Path) -> None:
    text = re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", path.read_text())
    (tmp_path / path.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / path.name)], capture_output=True, text=True
    )
    assert path.name not in done.stderr


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.Dockerfile")), ids=lambda path: path.stem)
def test_an_image_starts_a_command(path: Path) -> None:
    check_words(entry_point(path))


def test_the_manifest_fits_the_image_and_itself() -> None:
    service, pods = yaml.safe_load_all((RECIPES / "kubernetes.yaml").read_text())
    template = pods["spec"]["template"]
    (server,) = template["spec"]["containers"]
    words = [*entry_point(RECIPES / "server.Dockerfile"), *server["args"]]
    check_words(words)
    labels = template["metadata"]["labels"]
    assert service["spec"]["selector"] == pods["spec"]["selector"]["matchLabels"] == labels
    assert pods["spec"]["serviceName"] == service["metadata"]["name"]
    ports = {one["name"]: one["containerPort"] for one in server["ports"]}
    assert ports == {one["name"]: one["port"] for one in service["spec"]["ports"]}
    assert str(ports["robots"]) == words[words.index("--port") + 1]
    assert words[words.index("--metrics") + 1].endswith(f":{ports['metrics']}")
    mounted = {one["name"]: one["mountPath"] for one in server["volumeMounts"]}
    assert mounted.keys() == {one["name"] for one in template["spec"]["volumes"]}
    for option, name in (("--tls", "keys"), ("--cluster", "cluster")):
        assert words[words.index(option) + 1].startswith(mounted[name])
    assert words[2] == mounted["bundles"]
    for probe in (server["readinessProbe"]["httpGet"], server["livenessProbe"]["tcpSocket"]):
        assert probe["port"] in ports


def test_every_metric_of_the_dashboard_is_there_and_every_one_is_shown() -> None:
    board: dict[str, Any] = json.loads((RECIPES / "grafana.json").read_text())
    shown = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"vlacut_\w+", target["expr"])
    }
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    _, plan, engines = crossing_deployment()
    with served(plan, engines) as server:
        there = {
            metric.name + ("_total" if metric.type == "counter" else "")
            for metric in _Counts(server).collect()
        }
    assert shown == there
