"""The device's memory: the clicks of its user, in a folder of its own.

    with ClickStore.open(Path("clicks")) as store:
        session = Session(bundle, link, store=store)   # ranks from the clicks of earlier days

A click is a record at the end of a log (click_log.py): a process that is killed at any byte loses
at most the click that it was writing. When the log is over its limits, the newest clicks go into a
new file that takes its place whole. Nothing here sends anything.
"""

import operator
import time
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from device_client.items import ItemId, ItemIds, id_text, id_texts, listed
from device_client.learning.click_log import Click, RecordTooLarge, encode_click, frame
from device_client.learning.lists_shown import (
    LONGEST_LIST,
    ListShown,
    encode_list,
    lists_with_clicks,
)
from device_client.learning.saved_log import SavedLog, StoreLimits
from device_client.learning.store_folder import LARGEST_STATE, DamagedState, StoreFolder
from device_client.learning.trouble import StoreTrouble, trouble_of
from shared.errors import InvalidItem, NotForgotten


def unix_ms() -> int:
    """The time of the device's clock in Unix milliseconds."""
    return time.time_ns() // 1_000_000


class ClickStore:
    """Clicks and lists shown of one user, and small states. Create it with `ClickStore.open`.

    Records are ordered by a running number; times are kept as given and decide nothing, so a clock
    that is set back does no harm. Faults of the disk never raise where a click is stored: they are
    counted in `troubles`, and what could not be written is kept in memory and written later. Not
    thread-safe.
    """

    def __init__(self, saved: SavedLog, now_ms: Callable[[], int]) -> None:
        self._saved, self._now_ms = saved, now_ms
        self.troubles = saved.troubles
        """Number of troubles by name."""
        self.torn_bytes = saved.content.torn_bytes
        """Bytes lost at the end of the log when it was opened, as a killed process leaves them."""
        self.damaged_bytes = saved.content.damaged_bytes
        """Bytes lost elsewhere in it; the clicks before and after are kept."""
        self._watchers: list[weakref.WeakMethod[Callable[[], None]]] = []

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        max_clicks: int = 2_000,
        max_lists: int = 200,
        max_bytes: int = 1024 * 1024,
        durable: bool = False,
        now_ms: Callable[[], int] = unix_ms,
    ) -> "ClickStore":
        """Opens the store in `folder`, which no other program should use, and makes it if absent.

        Args:
            max_clicks: clicks that are kept; the oldest go. Up to a quarter more stay in the log
                until it is written anew.
            max_lists: lists shown that are kept; they go before clicks do.
            max_bytes: size that the log never exceeds. A rewrite needs that much again.
            durable: whether each click waits for the disk, and so survives a loss of power. A
                killed process loses nothing either way.
            now_ms: the clock, for clicks without a time.

        A folder that cannot be written to is a trouble, not an error: clicks are then kept in
        memory. Raises StoreInUse if the store is open elsewhere, StoreUnusable if the folder or
        the log is something else, StoreTooNew, and ValueError for limits out of range.
        """
        limits = StoreLimits(max_clicks, max_lists, max_bytes)
        saved = SavedLog(folder.absolute(), limits, durable=durable)
        saved.open()
        return cls(saved, now_ms)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def lost_bytes(self) -> int:
        """Bytes of the log that were damaged when it was opened, and are lost."""
        return self.torn_bytes + self.damaged_bytes

    @property
    def version(self) -> int:
        """Changes with every click, list shown and `forget`. It is the running number of the newest
        record if there is one, and then the same after a restart; it begins at random."""
        return self._saved.number

    def click(self, item: ItemId, time_ms: int | None = None) -> bool:
        """Stores a click; False if it is not on the disk now (`troubles` counts why).

        Raises InvalidItem if the item is not a catalogue id, and ValueError if the time is not
        an integer of 64 bits.
        """
        click = id_text(item), self._time(time_ms)
        try:
            record = encode_click(self._saved.number + 1, click)
        except UnicodeEncodeError as error:
            raise InvalidItem("a catalogue id is Unicode text, this one has a surrogate") from error
        except RecordTooLarge:
            return self._saved.note(StoreTrouble.TOO_LARGE)
        return self._saved.add_click(click, record)

    def shown(
        self, items: ItemIds, clicked: Iterable[int] = (), time_ms: int | None = None
    ) -> bool:
        """Stores a list that the app showed, top first; False and errors as in `click`.

        Clicks that follow, until the next list, count as clicks on its items by themselves;
        `clicked` are positions (from 0) known by now. The first 200 items are kept. Raises
        ValueError for a position that the list does not have.
        """
        ids = id_texts(listed(items, "items shown"))
        positions = sorted({operator.index(position) for position in clicked})
        if positions and not 0 <= positions[0] <= positions[-1] < len(ids):
            raise ValueError(f"positions go from 0 to {len(ids) - 1}, got {positions}")
        visible = tuple(position for position in positions if position < LONGEST_LIST)
        shown = ListShown(tuple(ids[:LONGEST_LIST]), visible, self._time(time_ms))
        try:
            payload = encode_list(self._saved.number + 1, shown)
            record = frame(payload)
        except UnicodeEncodeError as error:
            raise InvalidItem("a catalogue id is Unicode text, one has a surrogate") from error
        except RecordTooLarge:
            return self._saved.note(StoreTrouble.TOO_LARGE)
        return bool(self._saved.limits.max_lists) and self._saved.add_list(payload, record)

    def clicks(self, after: int = 0) -> list[Click]:
        """Pairs of id and time in Unix ms, newest last; those since that `version`, if given."""
        content, limit = self._saved.content, self._saved.limits.max_clicks
        start = bisect_right(content.click_numbers, after)
        return content.clicks[max(start, len(content.clicks) - limit) :]

    def lists(self) -> list[ListShown]:
        """The lists shown, newest last, with the positions clicked."""
        shown = lists_with_clicks(self._saved.content)
        return shown[max(len(shown) - self._saved.limits.max_lists, 0) :]

    def save_state(self, name: str, content: bytes) -> bool:
        """Writes a state whole, such as a patch; False if it could not be (`troubles`).

        `name`: a small letter, then up to 31 small letters, digits, `_` or `-`, else ValueError.
        """
        if len(content) > LARGEST_STATE:
            return self._saved.note(StoreTrouble.TOO_LARGE)
        if (folder := self._saved.usable()) is None:
            return False
        try:
            folder.write_state(name, content, durable=self._saved.durable)
        except OSError as error:
            return self._saved.note(trouble_of(error))
        return True

    def load_state(self, name: str) -> bytes | None:
        """A state as it was written; None if it is absent or damaged."""
        if (folder := self._saved.usable()) is None:
            return None
        try:
            return folder.read_state(name)
        except DamagedState:
            self._saved.note(StoreTrouble.DAMAGED_STATE)
        except OSError as error:
            self._saved.note(trouble_of(error))
        return None

    def remove_state(self, name: str) -> bool:
        """Removes a state; False if it is still there."""
        if (folder := self._saved.usable()) is None:
            return False
        try:
            folder.remove_state(name)
        except OSError as error:
            return self._saved.note(trouble_of(error))
        return True

    def forget(self) -> None:
        """Forgets the user: removes clicks, lists and states, from memory and from the folder.

        Sessions and others that watch (`watch_forget`) forget too. The store is empty then, and
        can be used. Files are removed and the folder is synchronised; their bytes are not
        overwritten, because flash memory and many file systems write elsewhere. What a file
        system may keep until it uses the space again: the old blocks, its journal, snapshots,
        backups. Raises NotForgotten if a file could not be removed; memory is empty all the same.
        """
        self._saved.forget()
        for reference in self._watchers:
            if (forget := reference()) is not None:
                forget()
        folder = self._saved.folder
        if folder is not None:
            folder.erase()
        else:
            self.erase(self._saved.path)

    @staticmethod
    def erase(folder: Path) -> None:
        """Removes a store that is not open, such as one that `open` refuses, like `forget`.

        Raises StoreInUse, StoreUnusable and NotForgotten.
        """
        if not folder.exists():
            return
        try:
            opened = StoreFolder.open(folder)
        except OSError as error:
            raise NotForgotten(f"the folder cannot be opened: {error.strerror}") from error
        try:
            opened.erase()
        finally:
            opened.close()

    def watch_forget(self, forget: Callable[[], None]) -> None:
        """Lets `forget` of this store call a method of an object too, as long as that lives."""
        self._watchers = [reference for reference in self._watchers if reference() is not None]
        self._watchers.append(weakref.WeakMethod(forget))

    def tidy(self) -> bool:
        """Writes the log anew if it holds more or less than it should: for idle moments, so that
        no click has to. Returns whether everything is on the disk."""
        return self._saved.tidy()

    def close(self) -> None:
        """Writes what could not be written so far, and gives the folder back."""
        self._saved.close()

    def _time(self, time_ms: int | None) -> int:
        moment = self._now_ms() if time_ms is None else operator.index(time_ms)
        if not -(1 << 63) <= moment < 1 << 63:
            raise ValueError("a time is Unix milliseconds, an integer of 64 bits")
        return moment
