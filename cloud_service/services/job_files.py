"""Progress and log of a running job: `progress.json` and `log.jsonl` in its folder.

The worker writes them and the API reads them. They are files, because both processes share the
store, and because a database write for every step of a progress bar would cost too much.
"""

import json
import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cloud_service.recommender.progress import Progress
from shared.whole_file import write_whole

LOG = "log.jsonl"
PROGRESS = "progress.json"
READ_BYTES = 1 << 20
"""Most bytes that one read of a log returns."""
LINE_BYTES = 4096
"""Longest message in a log."""


def job_folder(store: Path, job: str) -> Path:
    """Returns the folder of a job's checkpoints and log, `jobs/ID` in the store's, and makes it.

    Raises ValueError if `job` is not a UUID.
    """
    if not re.fullmatch(r"[0-9a-f-]{36}", job):
        raise ValueError("a job's id is a UUID")
    folder = store / "jobs" / job
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class LogLine(BaseModel):
    """One line of a job's log."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: datetime
    message: str


class JobFiles:
    """Progress and log of one job. Log lines have `***` in place of each of `secrets`."""

    def __init__(self, folder: Path, secrets: Iterable[str] = ()) -> None:
        self.folder = folder
        self._secrets = tuple(secrets)

    def log(self, message: str) -> None:
        """Appends one line in one write, so that lines of two processes never mix."""
        line = LogLine(time=datetime.now(UTC), message=self.clean(message))
        handle = os.open(self.folder / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.model_dump_json().encode() + b"\n")
        finally:
            os.close(handle)

    def clean(self, message: str) -> str:
        """Returns `message` without secrets, cut to LINE_BYTES."""
        for secret in self._secrets:
            message = message.replace(secret, "***")
        return message[:LINE_BYTES]

    def read_log(self, offset: int = 0) -> tuple[bytes, int]:
        """Returns complete lines from byte `offset` (at most READ_BYTES), and the next offset."""
        try:
            with (self.folder / LOG).open("rb") as file:
                file.seek(offset)
                text = file.read(READ_BYTES)
        except FileNotFoundError:
            return b"", offset
        # An incomplete last line is left for the next read.
        text = text[: text.rfind(b"\n") + 1]
        return text, offset + len(text)

    def began(self) -> bool:
        """Returns whether a worker has already begun this job."""
        return (self.folder / PROGRESS).exists()

    def write_progress(self, progress: Progress) -> None:
        """Replaces the progress. A reader sees the old or the new file. Not synced to disk."""
        write_whole(self.folder / PROGRESS, progress.model_dump_json(), durable=False)

    def progress(self) -> tuple[Progress, datetime] | None:
        """Returns the progress and the time it was written, or None before the first one."""
        path = self.folder / PROGRESS
        try:
            when = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            return Progress.model_validate(json.loads(path.read_bytes())), when
        except (OSError, ValueError, ValidationError):
            return None
