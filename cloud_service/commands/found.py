"""Commands that other packages add to `cloud-service`, found through their entry points."""

from importlib.metadata import entry_points
from typing import Final

import typer

from shared.errors import InvalidRequest

ENTRY_POINTS: Final = "cloud_service.commands"
"""Group of entry points. Each is a function that takes the program's Typer and adds a command."""
OFFERED: Final = ("evaluate", "tables", "parity")
"""The commands of the laboratory (package `experiments`)."""
INSTALL: Final = "pip install 'device-cloud-recommendation[cloud]'"


def add_found_commands(app: typer.Typer) -> None:
    """Adds the commands that installed packages offer, and for absent ones a line of advice."""
    offered = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    for name in OFFERED:
        try:
            offered[name].load()(app)
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
