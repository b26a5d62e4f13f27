"""The commands, by name: each is imported when it is called."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import ClassVar

import click


class _Lazy(click.Group):
    """A group whose commands are functions of modules, imported on demand."""

    where: ClassVar[dict[str, str]] = {
        "compile": "compile:compile_command",
        "plan": "compile:plan_command",
        "opt": "compile:opt_command",
        "inspect": "bundles:inspect_command",
        "verify": "bundles:verify_command",
        "check": "check:check_command",
        "build": "build:build_command",
        "serve": "deploy:serve_command",
        "run": "deploy:run_command",
        "simulate": "simulate:simulate_command",
        "twin": "twin:twin_command",
        "train-predictor": "predictor:train_command",
        "keys": "keys:keys_command",
        "sign": "keys:sign_command",
        "devices": "lists:devices_command",
        "models": "lists:models_command",
        "calibrate": "calibrate:calibrate_command",
        "profile": "profile:profile_command",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, in the order in which one needs them."""
        return list(self.where)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        if cmd_name not in self.where:
            return None
        module, _, name = self.where[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"vlacut.cli.{module}"), name)
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("vlacut"), prog_name="vlacut")
def vlacut() -> None:
    """Cut a vision-language-action model between a robot and a GPU server."""
