"""A worker's sign of life: a small file in the store, written every few seconds.

The API and the worker share the store, so no database is asked for it.
"""

import json
import time
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from shared.whole_file import write_whole

SECONDS: Final = 2.0
"""How often a worker writes it."""
LIFETIME: Final = 15.0
"""A worker that has not written for so long is taken for dead."""
_NAME: Final = "worker.json"


class WorkerState(BaseModel):
    """What is known of the worker."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alive: bool
    seconds_ago: float | None = Field(None, description="since its last sign of life")
    job: str | None = Field(None, description="what it runs")


class Heartbeat:
    """The sign of life in the store at `folder`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME

    def beat(self, job: str | None) -> None:
        """Writes that the worker lives and what it runs. A reader sees the old or the new one."""
        text = json.dumps({"time": time.time(), "job": job})
        write_whole(self._path, text, durable=False)  # written again in two seconds

    def state(self) -> WorkerState:
        """What the last sign of life says; no worker where there is none or it cannot be read."""
        try:
            written = json.loads(self._path.read_bytes())
            ago = max(0.0, time.time() - float(written["time"]))
            job = written["job"]
            return WorkerState(alive=ago < LIFETIME, seconds_ago=ago, job=job)
        except (OSError, ValueError, KeyError, TypeError):
            return WorkerState(alive=False)
