"""The heartbeat of the worker: a small file in the store, written every few seconds.

The API reads it from the store that it shares with the worker, without a database.
"""

import json
import time
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from shared.whole_file import write_whole

SECONDS: Final = 2.0
"""Time between two heartbeats."""
LIFETIME: Final = 15.0
"""A worker without a heartbeat for this long counts as dead."""
_NAME: Final = "worker.json"


class WorkerState(BaseModel):
    """Whether the worker is alive, and what it runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alive: bool
    seconds_ago: float | None = Field(None, description="since its last sign of life")
    job: str | None = Field(None, description="what it runs")


class Heartbeat:
    """The heartbeat file in the store at `folder`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME

    def beat(self, job: str | None) -> None:
        """Writes a heartbeat with the running job. A reader sees the old or the new file."""
        text = json.dumps({"time": time.time(), "job": job})
        write_whole(self._path, text, durable=False)  # written again in two seconds

    def state(self) -> WorkerState:
        """Returns the last heartbeat; not alive if there is none or it cannot be read."""
        try:
            written = json.loads(self._path.read_bytes())
            ago = max(0.0, time.time() - float(written["time"]))
            job = written["job"]
            return WorkerState(alive=ago < LIFETIME, seconds_ago=ago, job=job)
        except (OSError, ValueError, KeyError, TypeError):
            return WorkerState(alive=False)
