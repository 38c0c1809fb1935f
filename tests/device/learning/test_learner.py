"""The learner of a device: rounds in steps, what is kept, what is stored, and bad input."""

import json
import shutil
import struct
import zlib

import numpy as np
import pytest

from device_client.bundle import Bundle
from device_client.learning.learner import STATE, Learner
from device_client.learning.learning_round import LearningRound
from device_client.learning.own_clicks import MOST, OwnClicks
from device_client.learning.patch import LARGEST, Patch
from device_client.learning.store import ClickStore
from device_client.scn import Graphs
from device_client.session import Session
from shared.bundle import version_of
from shared.errors import BundleInvalid, PatchInvalid, StalePatch
from shared.outcomes import LearningOutcome
from tests.conftest import ROOT

GOLDEN = ROOT / "tests" / "shared" / "golden"
BUNDLES = {name: GOLDEN / f"learning-{name}" for name in ("shift", "metapatch")}
ENDLESS_MS = 60_000.0
ITEMS = 30
EVERYTHING = np.arange(1, ITEMS + 1)
LIKED = [6, 22, 30]
"""Items that the untrained model ranks below others for a user who clicks them."""


@pytest.fixture(scope="module")
def graphs():
    return Graphs(Bundle.open(BUNDLES["shift"]))


@pytest.fixture
def store(tmp_path):
    with ClickStore.open(tmp_path / "store") as opened:
        yield opened


def learner_of(session):
    """A learner whose negatives are always the same."""
    return Learner(session, draw=lambda items, count: np.arange(1, count + 1))


def clicked(session, count, seed=0):
    """Clicks of a user who likes few items, which a patch can learn."""
    for row in np.random.default_rng(seed).choice(LIKED, count):
        session.click_row(int(row))


def taught(bundle, store, patch):
    """A session with a learner that begins with this patch."""
    store.save_state(STATE, patch.to_bytes())
    session = Session(bundle, store=store)
    return session, learner_of(session)


def patch_of(bundle, numbers, **changes):
    fields = {"form": bundle.manifest.learning.patch.form, "version": bundle.version} | changes
    return Patch(numbers=np.asarray(numbers, np.float32), **fields)


def copied(name, folder):
    """The same bundle with a manifest of other bytes, so of another version."""
    shutil.copytree(BUNDLES[name], folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"metrics": {"other": 1.0}}))
    return Bundle.open(folder)


@pytest.mark.parametrize("name", BUNDLES)
def test_a_zero_patch_changes_no_bit(name, store):
    bundle = Bundle.open(BUNDLES[name])
    size = 16 if name == "shift" else 5
    plain = Session(bundle)
    patched, learner = taught(bundle, store, patch_of(bundle, np.zeros(size)))
    assert learner.patch is not None
    patched.scn.offsets = None
    for row in (4, 9, 9, 2, 30, 17):
        for session in (plain, patched):
            session.click_row(row)
        assert np.array_equal(plain.score_rows(EVERYTHING), patched.score_rows(EVERYTHING))
        assert np.array_equal(plain.scn.hidden, patched.scn.hidden)
    assert patched.scn.patch is not None


def test_a_patch_changes_rankings_but_never_h(graphs, store):
    plain = Session(graphs)
    patched, _ = taught(graphs.bundle, store, patch_of(graphs.bundle, np.ones(16)))
    for row in (4, 9, 2, 30, 17):
        plain.click_row(row)
        patched.click_row(row)
    assert np.array_equal(plain.scn.hidden, patched.scn.hidden)
    assert np.array_equal(plain.scn.user, patched.scn.user)
    assert np.abs(plain.score_rows(EVERYTHING) - patched.score_rows(EVERYTHING)).max() > 0.5


def test_a_device_learns_what_its_user_likes(graphs):
    session = Session(graphs)
    learner = learner_of(session)
    clicked(session, 30)
    before = session.score_rows(EVERYTHING)
    assert learner.learn(ENDLESS_MS) is LearningOutcome.IMPROVED
    gained = session.score_rows(EVERYTHING) - before
    assert gained[np.subtract(LIKED, 1)].mean() > gained.mean()
    assert learner.learn(ENDLESS_MS) is None  # no new clicks
    assert learner.outcomes == {LearningOutcome.IMPROVED: 1}


def test_a_round_goes_on_where_it_was_whatever_the_slices(graphs):
    """Slices of no time do one step each, with clicks and rankings between them."""
    patches = []
    for budget in (ENDLESS_MS, 0.0):
        session = Session(graphs)
        learner = learner_of(session)
        clicked(session, 30)
        outcome = learner.learn(budget)
        while outcome is LearningOutcome.OUT_OF_TIME:
            session.click_row(5)
            session.rerank_rows(EVERYTHING)
            outcome = learner.learn(budget)
        assert outcome is LearningOutcome.IMPROVED
        patches.append(learner.patch.numbers)
    assert np.array_equal(*patches)
    assert learner.outcomes[LearningOutcome.OUT_OF_TIME] > 6  # as many as there are steps
    assert learner.learn(0) is LearningOutcome.OUT_OF_TIME  # the clicks in between


def test_too_few_clicks_teach_nothing(graphs):
    session = Session(graphs)
    learner = learner_of(session)
    assert learner.learn(ENDLESS_MS) is None
    clicked(session, 8)  # the first has no state, and three are held out
    assert learner.learn(ENDLESS_MS) is LearningOutcome.TOO_FEW
    assert learner.patch is None
    clicked(session, 1)
    assert learner.learn(ENDLESS_MS) in (LearningOutcome.IMPROVED, LearningOutcome.KEPT)


class TestWhatIsKept:
    """The newest clicks decide between the new patch, the old one, and none."""

    @pytest.fixture
    def judged(self, graphs):
        one = LearningRound(graphs.bundle, graphs.bundle.manifest.learning.patch)
        rows, negatives = np.array([3, 7]), np.array([1, 2, 4, 5, 6])
        towards = one._table[rows].mean(0) - one._table[negatives].mean(0)
        states = np.zeros((2, 16), np.float32)

        def judge(old, new):
            one.best = old
            return one._judge(new, states, rows, negatives), one.best

        return judge, towards

    def test_a_better_patch_is_taken(self, judged):
        judge, good = judged
        assert judge(None, good) == (LearningOutcome.IMPROVED, good)
        assert judge(-good, good) == (LearningOutcome.IMPROVED, good)

    def test_a_worse_one_leaves_what_was_there(self, judged):
        judge, good = judged
        assert judge(None, -good) == (LearningOutcome.KEPT, None)
        assert judge(good, -good) == (LearningOutcome.KEPT, good)

    def test_an_old_one_that_has_become_worse_than_none_goes(self, judged):
        judge, good = judged
        assert judge(-good, -good) == (LearningOutcome.KEPT, None)

    def test_equal_ranks_keep_the_old_one(self, judged):
        judge, good = judged
        outcome, best = judge(good, good.copy())
        assert outcome is LearningOutcome.KEPT
        assert best is good


def test_numbers_that_are_not_finite_are_never_used(graphs):
    session = Session(graphs)
    learner = learner_of(session)
    clicked(session, 30)
    assert learner.learn(ENDLESS_MS) is LearningOutcome.IMPROVED
    kept = learner.patch
    step = learner._round._graph.step
    for bad in (np.nan, np.inf, 10 * LARGEST):

        def diverges(number, bad=bad):
            loss = step(number)
            learner._round._graph.patch[0] = bad
            return loss

        learner._round._graph.step = diverges
        session.click_row(3)
        assert learner.learn(ENDLESS_MS) is LearningOutcome.DIVERGED
        assert learner.patch is kept
        assert np.isfinite(session.score_rows(EVERYTHING)).all()
    learner._round._graph.step = step
    session.click_row(3)
    assert learner.learn(ENDLESS_MS) in (LearningOutcome.IMPROVED, LearningOutcome.KEPT)


def test_an_app_that_restarts_ranks_and_learns_as_if_it_had_not(graphs, store):
    first = Session(graphs, store=store)
    learner = learner_of(first)
    clicked(first, 30)
    assert learner.learn(ENDLESS_MS) is LearningOutcome.IMPROVED
    clicked(first, 7, seed=1)
    again = Session(graphs, store=store)
    relearner = learner_of(again)
    assert np.array_equal(relearner.patch.numbers, learner.patch.numbers)
    np.testing.assert_array_equal(again.score_rows(EVERYTHING), first.score_rows(EVERYTHING))
    assert relearner.learn(ENDLESS_MS) is learner.learn(ENDLESS_MS)
    np.testing.assert_allclose(
        relearner._round._graph.patch, learner._round._graph.patch, rtol=0, atol=1e-6
    )


def test_a_patch_of_another_bundle_is_not_used_and_learned_again(graphs, store, tmp_path):
    session = Session(graphs, store=store)
    learner = learner_of(session)
    clicked(session, 30)
    assert learner.learn(ENDLESS_MS) is LearningOutcome.IMPROVED
    other = copied("shift", tmp_path / "other")
    assert other.version != graphs.bundle.version
    newer = Session(other, store=store)
    relearner = learner_of(newer)
    assert relearner.patch is None
    assert newer.scn.patch is None
    assert relearner.outcomes == {LearningOutcome.STALE_BUNDLE: 1}
    assert relearner.learn(ENDLESS_MS) is LearningOutcome.IMPROVED
    assert Patch.from_bytes(store.load_state(STATE), other).version == other.version


def resealed(content):
    """The bytes with a checksum that fits them."""
    body = bytes(content[:-4])
    return body + struct.pack("<I", zlib.crc32(body))


def test_every_damaged_byte_of_a_patch_is_noticed(graphs):
    whole = patch_of(graphs.bundle, np.linspace(-1, 1, 16)).to_bytes()
    assert np.array_equal(Patch.from_bytes(whole, graphs.bundle).numbers[[0, -1]], [-1, 1])
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        with pytest.raises(PatchInvalid):
            Patch.from_bytes(bytes(damaged), graphs.bundle)
        with pytest.raises(PatchInvalid):
            Patch.from_bytes(whole[:at], graphs.bundle)


@pytest.mark.parametrize(
    ("numbers", "changes"),
    [
        (np.full(16, np.nan), {}),
        (np.full(16, np.inf), {}),
        (np.full(16, 2 * LARGEST), {}),
        (np.zeros(15), {}),
        (np.zeros(0), {}),
        (np.zeros(16), {"form": "metapatch"}),
    ],
)
def test_a_patch_that_does_not_fit_is_refused_and_rankings_go_on(graphs, store, numbers, changes):
    patch = patch_of(graphs.bundle, numbers, **changes)
    with pytest.raises(PatchInvalid) as refused:
        Patch.from_bytes(patch.to_bytes(), graphs.bundle)
    assert refused.type is PatchInvalid
    session, learner = taught(graphs.bundle, store, patch)
    assert learner.patch is None
    session.click_row(3)
    assert np.isfinite(session.score_rows(EVERYTHING)).all()


def test_hostile_heads_of_a_patch_are_refused(graphs):
    whole = patch_of(graphs.bundle, np.zeros(16)).to_bytes()
    for at, value in ((6, 200), (24, 255), (27, 255)):  # the form; the count
        hostile = bytearray(whole)
        hostile[at] = value
        with pytest.raises(PatchInvalid):
            Patch.from_bytes(resealed(hostile), graphs.bundle)
    with pytest.raises(PatchInvalid, match="are no patch"):
        Patch.from_bytes(bytes(2 << 20), graphs.bundle)
    with pytest.raises(StalePatch):
        Patch.from_bytes(whole, Bundle.open(GOLDEN / "projected-readout"))


def test_a_patch_that_was_not_adopted_is_not_used(graphs, store):
    patch = patch_of(graphs.bundle, np.ones(16), adopted=False)
    assert not Patch.from_bytes(patch.to_bytes(), graphs.bundle).adopted
    _, learner = taught(graphs.bundle, store, patch)
    assert learner.patch is None


def test_a_bundle_without_learning_gives_a_learner_that_does_nothing():
    bundle = Bundle.open(GOLDEN / "projected-readout")
    plain, session = Session(bundle), Session(bundle)
    learner = learner_of(session)
    for row in range(1, 20):
        plain.click_row(row)
        session.click_row(row)
    assert learner.learn(ENDLESS_MS) is None
    assert np.array_equal(plain.score_rows(EVERYTHING), session.score_rows(EVERYTHING))


def test_graphs_of_other_sizes_than_the_manifest_says_are_refused(tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(BUNDLES["shift"], folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["learning"]["patch"]["window"] = 9
    content = json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(BundleInvalid, match=r"learn\.onnx has other inputs"):
        Learner(Session(Bundle.open(folder, version_of(content))))


@pytest.mark.parametrize("through", ["session", "store"])
def test_forgetting_leaves_nothing_of_the_user(graphs, store, through):
    session = Session(graphs, store=store)
    learner = learner_of(session)
    clicked(session, 30)
    assert learner.learn(ENDLESS_MS) is LearningOutcome.IMPROVED
    clicked(session, 5)
    assert learner.learn(0.0) is LearningOutcome.OUT_OF_TIME
    (session if through == "session" else store).forget()
    assert learner.patch is None
    assert store.load_state(STATE) is None
    assert learner.learn(ENDLESS_MS) is None
    assert not learner._clicks._states.any()
    assert not learner._clicks._rows.any()
    assert not learner._memory.offsets.any()
    graph = learner._round._graph
    assert not any(graph._inputs[name].any() for name in ("positives", "patch", "first", "start"))
    fresh = Session(graphs)
    learner_of(fresh)
    for one in (session, fresh):
        clicked(one, 6, seed=4)
    assert np.array_equal(session.score_rows(EVERYTHING), fresh.score_rows(EVERYTHING))


def test_states_are_those_that_a_replay_computes(graphs):
    session = Session(graphs)
    learner = learner_of(session)
    clicked(session, 30)
    learner._begin()
    replayed = OwnClicks(graphs, 11)
    for row in learner._clicks.rows(30):
        replayed.add(int(row), None)
    for _ in replayed.replay():
        pass
    for one, other in zip(learner._clicks.newest(0, 30), replayed.newest(0, 30), strict=True):
        np.testing.assert_array_equal(one, other[-len(one) :])


def test_old_clicks_make_room(graphs):
    own = OwnClicks(graphs, 4)
    for click in range(2 * MOST + 3):
        own.add(1 + click % ITEMS, np.full((1, 16), click, np.float32))
    assert own.count == 2 * MOST + 3
    assert len(own.rows(own.count)) <= MOST
    states, rows = own.newest(own.count - 4, own.count)
    clicks = np.arange(own.count - 4, own.count)
    assert np.array_equal(rows, 1 + clicks % ITEMS)
    assert np.array_equal(states[:, 0], clicks)
