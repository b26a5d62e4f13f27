"""The commands, by name: each is imported when it is called, and none to list them."""

from __future__ import annotations

from importlib import import_module
from typing import ClassVar

import click


class Commands(click.Group):
    """A group whose commands are functions of modules, imported on demand."""

    # Where a command is, and the first line of its help: what a list of all shows.
    where: ClassVar[dict[str, tuple[str, str]]] = {
        "compile": (
            "building.compile:compile_command",
            "Cut a model and write the bundle of both sides.",
        ),
        "plan": (
            "building.plan:plan_command",
            "Decide what runs where, and show what it would cost.",
        ),
        "explain": (
            "building.explain:explain_command",
            "Show what was traced of a model, or why not.",
        ),
        "opt": ("building.opt:opt_command", "Print the graph after passes, as stable text."),
        "report": (
            "building.report:report_command",
            "Write a page that shows what a bundle's plan is, and why.",
        ),
        "inspect": ("building.bundles:inspect_command", "Show what a bundle holds."),
        "verify": (
            "building.bundles:verify_command",
            "Compare every cut with the whole, and that with its model.",
        ),
        "check": (
            "building.check:check_command",
            "Check that devices will run the parts of a bundle.",
        ),
        "doctor": ("building.doctor:doctor_command", "Show what this machine can run."),
        "bundle": ("building.halve:bundle_command", "Write what one side needs of a bundle."),
        "build": (
            "building.build:build_command",
            "Build engines on the machine that will run them.",
        ),
        "serve": (
            "deploying.serve:serve_command",
            "Serve the cloud side of a bundle, or of several.",
        ),
        "rollout": (
            "deploying.rollout:rollout_command",
            "Put a bundle into the folder that a server follows.",
        ),
        "cluster": ("deploying.cluster:cluster_command", "Start many servers, which share robots."),
        "status": (
            "deploying.status:status_command",
            "Show the bundles, robots and load of servers.",
        ),
        "run": (
            "deploying.run:run_command",
            "Drive the edge side of a bundle; show where time went.",
        ),
        "simulate": (
            "deploying.simulate:simulate_command",
            "Run the control loop over recorded bandwidths, on paper.",
        ),
        "twin": (
            "deploying.twin:twin_command",
            "Run both sides here, in real time, over an emulated link.",
        ),
        "train-predictor": (
            "measuring.predictor:train_command",
            "Fit a predictor of the bandwidth to recorded ones.",
        ),
        "keys": ("building.keys:keys_command", "Make keys for the cloud and for robots."),
        "sign": (
            "building.keys:sign_command",
            "Sign a bundle, for machines that run it with --trusted.",
        ),
        "cache": ("building.cache:cache_command", "List, or clear, the cache of traced models."),
        "devices": (
            "building.lists:devices_command",
            "List the devices that --edge and --cloud know.",
        ),
        "models": (
            "building.lists:models_command",
            "List the models of the zoo and their presets.",
        ),
        "calibrate-precision": (
            "measuring.precision:precision_command",
            "Fit the switch of precision to recorded EPISODES.",
        ),
        "calibrate-actions": (
            "measuring.actions:actions_command",
            "Measure what age and variants do to actions, on EPISODES.",
        ),
        "calibrate-draft": (
            "measuring.drafts:drafts_command",
            "Measure how many drafts are right on EPISODES.",
        ),
        "accept": (
            "measuring.accept:accept_command",
            "Accept a candidate that loses few of REFERENCE's episodes.",
        ),
        "calibrate": (
            "measuring.calibrate:calibrate_command",
            "Measure this machine, and write it as a device.",
        ),
        "profile": (
            "measuring.profile:profile_command",
            "Measure the parts of a bundle where they run.",
        ),
        "completion": (
            "completion:completion_command",
            "Print the script that completes commands in a shell.",
        ),
    }

    def builds(self, name: str) -> bool:
        """Whether a command makes something, and ends then: it answers nobody meanwhile."""
        return self.where.get(name, ("",))[0].startswith("building.")

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, in the order in which one needs them."""
        return list(self.where)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        if cmd_name not in self.where:
            return None
        module, _, name = self.where[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"vlacut.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.where.items()])

    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """Commands and options of the group, without importing the commands."""
        commands = [
            click.shell_completion.CompletionItem(name, help=line)
            for name, (_, line) in self.where.items()
            if name.startswith(incomplete)
        ]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vlacut", prog_name="vlacut")
def vlacut() -> None:
    """Cut a vision-language-action model between a robot and a GPU server."""
