"""`cloud-service parity`: a published model's cases, in PyTorch and in ONNX Runtime."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cloud_service.commands.output import out


def add_parity(app: typer.Typer) -> None:
    """Adds `parity` to the commands of `cloud-service`."""
    app.command(epilog="Example: cloud-service parity published.npz")(parity)


def parity(
    file: Annotated[Path, typer.Argument(help="Weights and cases of a published model, .npz.")],
) -> None:
    """Runs every case of a published model in PyTorch and in ONNX Runtime.

    Prints the largest difference of each array; exit code 1 where one is over 1e-4.
    """
    from experiments.parity import TOLERANCE, check_parity

    table = Table("engine", "case", "array", "largest difference", "")
    largest, within = 0.0, True
    for found in check_parity(file):
        verdict = "ok" if found.within else f"over {TOLERANCE:g}"
        table.add_row(found.engine, found.case, found.array, f"{found.largest:.2e}", verdict)
        largest = found.largest if not found.largest <= largest else largest
        within = within and found.within
    out.print(table)
    out.print(f"largest difference {largest:.2e}, allowed {TOLERANCE:g}", highlight=False)
    if not within:
        raise typer.Exit(1)
