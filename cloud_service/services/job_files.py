"""What can be seen of a job while it runs: `progress.json` and `log.jsonl` in its folder.

Written by the worker, read by the API: files, because both have the store at hand anyway and a
progress bar must not cost a database write per step.
"""

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cloud_service.recommender.progress import Progress
from shared.whole_file import write_whole

LOG = "log.jsonl"
PROGRESS = "progress.json"
READ_BYTES = 1 << 20
"""The most that one reading of a log returns."""
LINE_BYTES = 4096
"""No message of a log is longer."""


class LogLine(BaseModel):
    """One line of a job's log."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: datetime
    message: str


class JobFiles:
    """The visible files of one job. `secrets` are texts that are blanked in every line."""

    def __init__(self, folder: Path, secrets: Iterable[str] = ()) -> None:
        self.folder = folder
        self._secrets = tuple(secrets)

    def log(self, message: str) -> None:
        """Appends a line; a line is written whole, even by two processes at once."""
        line = LogLine(time=datetime.now(UTC), message=self.clean(message))
        handle = os.open(self.folder / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.model_dump_json().encode() + b"\n")
        finally:
            os.close(handle)

    def clean(self, message: str) -> str:
        """`message` without secrets, and not longer than a line may be."""
        for secret in self._secrets:
            message = message.replace(secret, "***")
        return message[:LINE_BYTES]

    def read_log(self, offset: int = 0) -> tuple[bytes, int]:
        """Whole lines from byte `offset` on (at most 1 MiB), and the offset to go on from."""
        try:
            with (self.folder / LOG).open("rb") as file:
                file.seek(offset)
                text = file.read(READ_BYTES)
        except FileNotFoundError:
            return b"", offset
        # A line that is still being written stays for the next reading.
        text = text[: text.rfind(b"\n") + 1]
        return text, offset + len(text)

    def began(self) -> bool:
        """Whether a worker has written here before."""
        return (self.folder / PROGRESS).exists()

    def write_progress(self, progress: Progress) -> None:
        """Replaces the progress; a reader sees the old or the new one. Not synced to disk."""
        write_whole(self.folder / PROGRESS, progress.model_dump_json(), durable=False)

    def progress(self) -> tuple[Progress, datetime] | None:
        """The progress and when it was written, or None before the first one."""
        path = self.folder / PROGRESS
        try:
            when = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            return Progress.model_validate(json.loads(path.read_bytes())), when
        except (OSError, ValueError, ValidationError):
            return None
