"""Adds commands of other packages to `cloud-service`, through entry points."""

from importlib.metadata import entry_points
from typing import Final

import typer

from shared.errors import InvalidRequest

ENTRY_POINTS: Final = "cloud_service.commands"
"""Group of entry points. Each one is a function that adds a command to a Typer program."""
OPTIONAL: Final = ("evaluate", "tables", "parity")
"""The commands of the package `experiments`."""
INSTALL: Final = "pip install 'device-cloud-recommendation[cloud]'"


def add_found_commands(app: typer.Typer) -> None:
    """Adds the commands of installed packages; a placeholder says how to install an absent one."""
    installed = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    for name in OPTIONAL:
        try:
            installed[name].load()(app)
        except (KeyError, ModuleNotFoundError) as error:
            missing = error.name if isinstance(error, ModuleNotFoundError) else None
            _add_absent(app, name, missing or "the package experiments")


def _add_absent(app: typer.Typer, name: str, missing: str) -> None:
    @app.command(
        name,
        help=f"Not installed: {INSTALL}",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        add_help_option=False,
    )
    def refuse() -> None:
        raise InvalidRequest(f"{name} needs {missing}: {INSTALL}")
