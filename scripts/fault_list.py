"""The faults that `seeded_faults.py` seeds, by the part of the program that they are in."""

from typing import Final, NamedTuple


class Fault(NamedTuple):
    """A change of one text, and the test files that should notice it."""

    group: str
    name: str
    old: str
    """Stands exactly once in the program's files."""
    new: str
    tests: tuple[str, ...]
    """Names of test files: `session` is `test_session.py`, wherever that is."""


def _faults(group: str, *faults: tuple[str, str, str, str]) -> list[Fault]:
    """Faults of one group, given as name, old text, new text and names of test files."""
    return [Fault(group, name, old, new, tuple(tests.split())) for name, old, new, tests in faults]


HOT_PATH: Final = _faults(
    "hot path",
    ("the query is turned to the place before the last click",
     "self._position[0] = self.count - 1", "self._position[0] = self.count - 2",
     "session graphs"),
    ("a correction stays in its buffers for the next ranking",
     "elif self._gate:\n", "elif False:\n", "session graphs"),
    ("the window of H does not slide",
     "self.hidden[: self.count] = self.hidden[1 : self._capacity]",
     "self.hidden[: self.count] = self.hidden[: self.count]", "session graphs"),
    ("the window of projections does not slide",
     "projections[:, :, : end - 1] = projections[:, :, 1:end]",
     "projections[:, :, : end - 1] = projections[:, :, : end - 1]", "session graphs"),
    ("the state is not carried into the next segment",
     "self._state[...] = self._next_state", "self._state[...] = self._state", "session graphs"),
    ("equal scores lose the cloud's order",
     'order = np.argsort(-scores, kind="stable")\n        timeline.ranked_ns',
     'order = len(scores) - 1 - np.argsort(-scores[::-1], kind="stable")\n'
     "        timeline.ranked_ns", "session items"),
    ("an unknown candidate has a score",
     "scores[unknown] = -np.inf", "scores[unknown] = 0.0", "items session"),
    ("a preloaded history keeps its oldest clicks",
     "rows = rows[-settings.length :]", "rows = rows[: settings.length]",
     "session first_screen"),
    ("the full form's correction is read at another place",
     "link.ask(self._scn.hidden, self._scn.count - 1)",
     "link.ask(self._scn.hidden, self._scn.count % 10)", "session link first_screen"),
    ("the budget is a thousandth",
     "int(self.tolerance_ms * 1e6)", "int(self.tolerance_ms * 1e3)", "session link"),
    ("a request is never given up",
     "remaining_s = flight.give_up - time.monotonic()",
     "remaining_s = flight.give_up - time.monotonic() + 1e6", "reasons link proxy"),
    ("an answer of another model version is applied",
     "if answer.version != self._version:", "if False:", "link hostile_bytes"),
    ("a late answer to older clicks replaces a newer one",
     "if self._latest is None or received.ticket >= self._latest.ticket:", "if True:",
     "link faults"),
    ("the pause of the breaker does not grow",
     "min(2 * self._pause, self._longest)", "min(self._pause, self._longest)", "link"),
    ("an answer whose check does not fit is applied",
     "if answer.check and answer.check != check_of(self.body, answer.body):", "if False:",
     "faults link"),
    ("the check does not cover H",
     "zlib.crc32(correction, zlib.crc32(hidden))", "zlib.crc32(correction)",
     "wire faults link"),
    ("the bias of the full form is read at the first click",
     "at = 4 * (self._full_attn_size + position * f)", "at = 4 * self._full_attn_size",
     "wire link graphs"),
    ("an H of zeros counts as sound in a batch",
     "squares.min() > 0.0 and", "squares.min() >= 0.0 and", "wire endpoint scheduler versions"),
    ("the queue computes what nobody waits for any more",
     "if now_s > pending.deadline:", "if False:", "scheduler"),
    ("one batch mixes the forms of corrections",
     "(pending.corrector, pending.form) != (batch[0].corrector, batch[0].form)",
     "pending.corrector != batch[0].corrector", "scheduler endpoint"),
)  # fmt: skip

TRAINING: Final = _faults(
    "training",
    ("the positive's gradient has the wrong sign",
     "index_add_(0, targets, states, alpha=-1)", "index_add_(0, targets, states, alpha=1)",
     "losses"),
    ("windows of short users are cut at random",
     "phase[pairs <= length] = 0", "phase[pairs <= 0] = 0", "windows"),
    ("negatives hold a user's own clicks",
     "return self._clicked_keys[slots] == keys", "return self._clicked_keys[slots] == -keys",
     "windows"),
    ("every epoch has the windows of the first",
     "np.random.default_rng((seed, epoch))", "np.random.default_rng((seed, 0))",
     "trainer"),
    ("gradients are not clipped", "CLIP = 5.0", "CLIP = 5e9", "trainer"),
    ("the parts of a sampled loss are not weighted",
     "loss * (len(states_part) / len(read))", "loss * 1.0", "trainer"),
    ("the moving average has no warm-up",
     "1 - min(decay, (1 + count) / (10 + count))", "1 - decay", "trainer"),
    ("dropout after a resumed run is another one",
     "torch.manual_seed(seed * 1_000_003 + epoch)", "torch.initial_seed()", "trainer"),
    ("the inner model is corrected away from its target",
     "state.bias - scale * (self.tril @ step)", "state.bias + scale * (self.tril @ step)", "ttt"),
    ("the deviation of Eq. 14 is the population's",
     "correction.std(-1, keepdim=True) + EPS", "correction.std(-1, False, keepdim=True) + EPS",
     "ttt parity"),
    ("a neighbour's weight does not fade with distance",
     "pairs.counts[is_kept] / pairs.distances[is_kept] ** counting.fade",
     "pairs.counts[is_kept] / pairs.distances[is_kept] ** 0", "neighbours"),
)  # fmt: skip

RANKING: Final = _faults(
    "ranking",
    ("a target ties with itself over all items",
     "out=flags).sum(1) - 1", "out=flags).sum(1)", "evaluate"),
    ("ties count for the model",
     "return 1 + self.greater + self.equal", "return 1 + self.greater", "metrics"),
    ("a history holds the click to be predicted",
     "index = (positions - count)[:, None] + steps",
     "index = (positions - count)[:, None] + steps + 1", "clicks evaluate"),
    ("the last full segment is carried too early",
     "np.maximum(positions - starts - 1, 0) // k", "(positions - starts) // k",
     "evaluate graphs"),
    ("Holm's correction is Bonferroni's",
     "p * (len(ordered) - smaller)", "p * len(ordered)", "significance"),
    ("the interval is the 90% one",
     "tail = (1.0 - level) / 2", "tail = 1.0 - level", "significance"),
    ("the validation click is the test click",
     "self.log.offsets[self.train_users + 1] - 2", "self.log.offsets[self.train_users + 1] - 1",
     "clicks"),
)  # fmt: skip

STORAGE: Final = _faults(
    "storage",
    ("a file of another content is opened",
     "if digest != entry.sha256:", "if False:", "bundle store"),
    ("a manifest of another version is opened",
     "if version is not None and version_of(raw) != version:", "if False:", "bundle store"),
    ("a version in use can be retired", "if used == version:", "if used == alias:", "store"),
    ("the oldest version is listed first",
     "key=lambda f: f.stat().st_mtime_ns, reverse=True", "key=lambda f: f.stat().st_mtime_ns",
     "store"),
    ("production goes to a model of another log",
     "aliases.remove(PRODUCTION)", "aliases.sort()", "promotion train_command"),
    ("a model that may be worse is promoted",
     "Verdict(low > MARGIN,", "Verdict(high > MARGIN,", "judge"),
    ("production's corrector is closed to make room",
     "protected = {newest, self._store.production()}", "protected = {newest}", "versions"),
)  # fmt: skip

DATA: Final = _faults(
    "data",
    ("one click too many stays of a user",
     "> last_rows[users] - count", ">= last_rows[users] - count", "order clicks"),
    ("clicks at one time go by the item's number",
     "np.lexsort((items[index], mixed, groups))", "np.lexsort((items[index], groups))", "order"),
    ("an item's last title counts",
     'frame.unique("item_id", keep="first", maintain_order=True)',
     'frame.unique("item_id", keep="last", maintain_order=True)', "log catalog"),
    ("an error names the line before",
     "dtype=np.int64) + layout.header_line + 1", "dtype=np.int64) + layout.header_line", "rows"),
    ("times with fractions are cut, not rounded",
     "(finite * scale).round().cast(", "(finite * scale).floor().cast(", "ids_and_times log"),
)  # fmt: skip

FAULTS: Final = (*HOT_PATH, *TRAINING, *RANKING, *STORAGE, *DATA)
