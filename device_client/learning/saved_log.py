"""A log of clicks in memory and on the disk: within limits, whatever becomes of the disk."""

import logging
import os
import secrets
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_client.learning.click_log import Click, LogContent
from device_client.learning.log_file import LogFile, load_log
from device_client.learning.store_folder import StoreFolder
from device_client.learning.trouble import StoreTrouble, trouble_of
from shared.errors import NotForgotten

_log = logging.getLogger(__name__)

LARGEST_LOG: Final = 64 * 1024 * 1024
"""Upper limit of `max_bytes`: a log is read into memory at once."""
SMALLEST_LOG: Final = 4096
RETRY: Final = 64
"""Records after a rewrite that failed before the next attempt."""


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What a log keeps at most. Raises ValueError for limits out of range.

    A log is written anew when it has a quarter more clicks or lists than its limit (or 8 more),
    and where bytes are the limit, three quarters of them are kept: rewrites are rare.
    """

    max_clicks: int
    max_lists: int
    max_bytes: int

    def __post_init__(self) -> None:
        if self.max_clicks < 1 or self.max_lists < 0:
            raise ValueError(
                f"at least 1 click is kept, got {self.max_clicks}; lists: {self.max_lists}"
            )
        if not SMALLEST_LOG <= self.max_bytes <= LARGEST_LOG:
            raise ValueError(f"max_bytes goes from {SMALLEST_LOG:,} to {LARGEST_LOG:,}")

    def exceeded_by(self, content: LogContent, *, slack: bool) -> bool:
        """Whether a log has too many clicks or lists, with the slack or without."""
        clicks, lists = len(content.clicks), len(content.lists)
        if clicks <= self.max_clicks and lists <= self.max_lists:
            return False
        if not slack:
            return True
        return clicks > self.max_clicks + max(self.max_clicks // 4, 8) or (
            lists > self.max_lists + max(self.max_lists // 4, 8)
        )


class SavedLog:
    """Clicks and lists shown, in memory and, as far as the disk takes them, in a folder.

    Faults of the disk do not raise: they are counted, and what could not be written is written
    with the next record that can. Where nothing can be written, memory alone is kept.
    """

    def __init__(self, path: Path, limits: StoreLimits, *, durable: bool) -> None:
        self.path, self.limits, self.durable = path, limits, durable
        self.content = LogContent()
        self.number = _first_number()
        """The running number of the newest record."""
        self.troubles: Counter[StoreTrouble] = Counter()
        self._folder: StoreFolder | None = None
        self._unusable = StoreTrouble.CLOSED
        """Why there is no folder, if there is none."""
        self._file: LogFile | None = None
        self._unsaved = b""
        """Records that could not be written yet: they come before the next one."""
        self._must_rewrite, self._retry_number = False, 0
        self._obstacle = StoreTrouble.IO_ERROR
        """Why the last rewrite that failed did."""
        self._pid, self.is_closed = os.getpid(), False

    def open(self) -> None:
        """Opens the folder and reads the log. Raises a StoreError, but not for a folder that cannot
        be used: that is a trouble."""
        try:
            self._load()
        except OSError as error:
            self._give_up(trouble_of(error))
        except NotForgotten:  # what was to be forgotten is still there: it is not read
            self._give_up(StoreTrouble.READ_ONLY)
        except BaseException:
            self.release()
            raise

    def add_click(self, click: Click, record: bytes) -> bool:
        """Adds a click with the next running number; False if it is not on the disk now."""
        if not self._takes(record):
            return False
        self.content.clicks.append(click)
        self.content.click_numbers.append(self.number)
        return self._save(record)

    def add_list(self, payload: bytes, record: bytes) -> bool:
        """Adds a list shown with the next running number; False like `add_click`."""
        if not self._takes(record):
            return False
        self.content.lists.append(payload)
        self.content.list_numbers.append(self.number)
        return self._save(record)

    def tidy(self) -> bool:
        """Writes the log anew if it holds more or less than it should. Returns whether everything
        is on the disk."""
        is_over = self.limits.exceeded_by(self.content, slack=False)
        if not (is_over or self._must_rewrite or self._unsaved):
            return True
        if self.usable() is None:
            return False
        return self._rewrite() or self.note(self._obstacle)

    def forget(self) -> None:
        """Empties the memory. The log has no file then; `erase` removes the files."""
        self.content, self._unsaved = LogContent(), b""
        self.number, self._must_rewrite, self._retry_number = _first_number(), False, 0
        if self._file is not None:
            self._file.close()
            self._file = None

    def usable(self) -> StoreFolder | None:
        """The folder if it can be written to; otherwise counts why not."""
        if os.getpid() != self._pid:
            self.note(StoreTrouble.FORKED)
            return None
        if self._file is not None and self._file.is_removed():
            self._give_up(StoreTrouble.REMOVED)
        elif self._folder is None:
            self.note(self._unusable)
        return self._folder

    def close(self) -> None:
        """Writes what could not be written so far, and gives the folder back."""
        if self.folder is not None:
            self.tidy()
        self.release()
        self._unusable, self.is_closed = StoreTrouble.CLOSED, True

    @property
    def folder(self) -> StoreFolder | None:
        """The folder that this process has locked, if any."""
        return self._folder if os.getpid() == self._pid else None

    def release(self) -> None:
        """Gives the folder back at once."""
        if self._file is not None:
            self._file.close()
        if self._folder is not None:
            self._folder.close(unlock=os.getpid() == self._pid)
        self._file = self._folder = None

    def note(self, trouble: StoreTrouble) -> bool:
        """Counts a trouble; the first of its name is logged. Returns False."""
        self.troubles[trouble] += 1
        if self.troubles[trouble] == 1:
            _log.warning("the store of clicks has a trouble, %s: %s", trouble, trouble.meaning)
        return False

    def _load(self) -> None:
        """Raises like `open`, and OSError and NotForgotten."""
        self._folder = StoreFolder.open(self.path)
        self._file, self.content = load_log(self._folder, self.limits.max_bytes)
        content = self.content
        numbers = content.click_numbers[-1:] + content.list_numbers[-1:]
        self.number = max(numbers, default=self.number)
        if content.torn_bytes or content.damaged_bytes:
            self.troubles[StoreTrouble.DAMAGED_LOG] += 1
            _log.warning(
                "the log of clicks lost %d bytes at its end, as a killed program leaves them, and "
                "%d elsewhere; %d clicks are whole",
                content.torn_bytes, content.damaged_bytes, len(content.clicks),
            )  # fmt: skip
        if content.damaged_bytes:
            self._rewrite()

    def _takes(self, record: bytes) -> bool:
        """Counts the running number up if the record can be stored at all."""
        if self.is_closed:
            return self.note(StoreTrouble.CLOSED)
        if len(record) > self.limits.max_bytes // 4:
            return self.note(StoreTrouble.TOO_LARGE)
        self.number += 1
        return True

    def _save(self, record: bytes) -> bool:
        """Appends a record that is in memory already, after those that could not be written
        before; or writes the log anew."""
        if self.limits.exceeded_by(self.content, slack=True):
            self.content.drop_oldest(self.limits.max_clicks, self.limits.max_lists)
            self._must_rewrite = True
        if self.usable() is None:
            return False
        file, unsaved = self._file, self._unsaved + record
        has_room = file is not None and file.size + len(unsaved) <= self.limits.max_bytes
        is_due = self._must_rewrite or not has_room
        if is_due and self.number >= self._retry_number and self._rewrite():
            return True
        if file is None or not has_room:
            self._must_rewrite, self._unsaved = True, b""  # a rewrite takes them from memory
            return self.note(self._obstacle)
        try:
            file.append(unsaved, durable=self.durable)
        except OSError as error:
            self._unsaved = unsaved
            return self.note(trouble_of(error))
        self._unsaved = b""
        return True

    def _rewrite(self) -> bool:
        """Puts a log with the newest records in the place of the old one."""
        assert self._folder is not None
        limits = self.limits
        self.content.drop_oldest(limits.max_clicks, limits.max_lists)
        records = self.content.encode(limits.max_bytes * 3 // 4)
        # The first log of all takes the place of nothing that was safe.
        durable = self.durable or self._folder.log.exists()
        try:
            file = LogFile.replace(self._folder.log, records, durable=durable)
        except OSError as error:
            self._must_rewrite, self._retry_number = True, self.number + RETRY
            self._obstacle = trouble_of(error)
            return False
        if self._file is not None:
            self._file.close()
        self._file, self._unsaved = file, b""
        self._must_rewrite, self._retry_number = False, 0
        return True

    def _give_up(self, trouble: StoreTrouble) -> None:
        """Goes on in memory only. A log that was removed is not written again: somebody wanted it
        gone."""
        self.release()
        self._unusable = trouble
        self.note(trouble)


def _first_number() -> int:
    """Where a new log begins to count: at random, so that a number tells nothing of what was
    forgotten, and a `version` from before is no version of after."""
    return secrets.randbits(48)
