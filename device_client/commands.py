"""Options shared by the commands of `device-client`, and commands of other packages."""

import argparse
import os
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final, TypeAlias

from device_client.correction.budget import DEFAULT_BUDGET_MS, Budget

ENTRY_POINTS: Final = "device_client.commands"
"""Group of entry points; each is a function that adds one command to its `Commands`."""
INSTALL: Final = {"simulate": "pip install 'device-cloud-recommendation[simulate]'"}
"""Commands of other packages, with the advice to show if the package is absent."""
DEFAULT_URL: Final = "http://127.0.0.1:8000"

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_found_commands(commands: Commands) -> None:
    """Adds the commands of installed packages; an absent one prints what to install."""
    offered = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    for name, advice in INSTALL.items():
        try:
            offered[name].load()(commands)
        except (KeyError, ModuleNotFoundError) as error:
            _add_absent(commands, name, advice, error)


def _add_absent(commands: Commands, name: str, advice: str, error: Exception) -> None:
    missing = error.name if isinstance(error, ModuleNotFoundError) else "the package experiments"
    reason = f"{name} needs {missing}: {advice}"

    def refuse(options: argparse.Namespace) -> int:
        raise RuntimeError(reason)

    parser = commands.add_parser(name, help=f"Not installed: {advice}", add_help=False)
    parser.add_argument("ignored", nargs=argparse.REMAINDER)
    parser.set_defaults(run=refuse)


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    help_text: str,
    example: str,
) -> argparse.ArgumentParser:
    """Adds a command with the common options: cloud, model, folder of bundles."""
    command = commands.add_parser(
        name,
        help=help_text,
        description=help_text,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    command.add_argument(
        "--url",
        default=os.environ.get("CLOUD_URL") or DEFAULT_URL,
        help=f"the cloud's address (default: CLOUD_URL of the environment, else {DEFAULT_URL})",
    )
    command.add_argument(
        "--model",
        default="production",
        metavar="VERSION|ALIAS",
        help="the model, by its version or by an alias (default: production, the one in use)",
    )
    command.add_argument(
        "--bundles",
        type=Path,
        default=Path("bundles"),
        help="where bundles are kept (default bundles/)",
    )
    return command


def add_budget(command: argparse.ArgumentParser) -> None:
    """Adds the options of the tolerance budget."""
    command.add_argument(
        "--budget-ms",
        type=float,
        default=DEFAULT_BUDGET_MS,
        help=f"tolerance from H, in ms (default {DEFAULT_BUDGET_MS}, the paper's)",
    )
    command.add_argument(
        "--timeout-s", type=float, default=2.0, help="a request is given up after this (default 2)"
    )


def budget_of(options: argparse.Namespace) -> Budget:
    """The budget that the options of `add_budget` give."""
    return Budget(options.budget_ms, options.timeout_s)
