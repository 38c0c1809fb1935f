"""The command `cloud-service`. The commands import heavy modules themselves, so help is fast."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from cloud_service.commands import jobs, local, models, processes
from cloud_service.commands.found import add_found_commands
from cloud_service.commands.recipe import with_recipe_options
from shared.errors import RecommendationError

FAULT = 2
"""Exit code of errors that the user can fix: invalid data or settings, no answer."""

app = typer.Typer(
    name="cloud-service",
    help="The cloud of a device-cloud recommender: trains, serves corrections, keeps models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(is_requested: bool) -> None:
    if is_requested:
        print(f"cloud-service {version('device-cloud-recommendation')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print it and stop."
        ),
    ] = False,
) -> None:
    pass


app.command(epilog="Example: cloud-service serve --port 8000 --store ./store")(processes.serve)
app.command(epilog="Example: cloud-service worker --store ./store")(processes.worker)
app.command(epilog="Example: cloud-service train --data synthetic --epochs 5 --store ./store")(
    with_recipe_options(local.train)
)
app.command(epilog="Example: cloud-service fetch online-retail")(local.fetch)
add_found_commands(app)
app.add_typer(models.app, name="models")
app.add_typer(jobs.app, name="jobs")


def main() -> None:
    """Runs the command. Prints a known error as one line on stderr and exits with code 2."""
    try:
        app()
    except RecommendationError as error:
        _stop(error.detail)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _stop(f"{where}{error.strerror or error}")


def _stop(reason: str) -> None:
    line = " ".join(reason.split())
    print(f"cloud-service: {line}", file=sys.stderr)
    sys.exit(FAULT)


if __name__ == "__main__":
    main()
