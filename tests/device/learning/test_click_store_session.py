"""An app that restarts goes on where it was: a session with a store."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from device_client.bundle import Bundle
from device_client.correction.budget import Budget
from device_client.correction.link import CorrectionLink
from device_client.learning.store import ClickStore
from device_client.learning.trouble import StoreTrouble
from device_client.scn import Graphs
from device_client.session import Session
from shared.errors import NotForgotten, UnknownItem
from shared.outcomes import Outcome
from shared.wire import Wire
from tests.conftest import ROOT
from tests.device.conftest import answer

GOLDEN = ROOT / "tests" / "shared" / "golden"
KINDS = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())
PATIENT = Budget(tolerance_ms=3_000, request_timeout_s=3)

APP = """
import json, sys
from pathlib import Path
import numpy as np
from device_client import Bundle, Session
from device_client.learning.store import ClickStore
bundle = Bundle.open(Path(sys.argv[1]))
session = Session(bundle, store=ClickStore.open(Path(sys.argv[2])))
candidates = np.arange(1, bundle.manifest.items + 1)
for line in sys.stdin:
    session.click(line.strip())
    print(json.dumps(session.score_rows(candidates).tolist()), flush=True)
"""


@pytest.fixture(scope="module")
def graphs():
    return Graphs(Bundle.open(GOLDEN / "causal-sliding"))


@pytest.fixture
def store(tmp_path):
    with ClickStore.open(tmp_path / "store") as opened:
        yield opened


def everything(session):
    return np.arange(1, session.bundle.manifest.items + 1)


def ids(bundle, count, seed=0):
    rows = np.random.default_rng(seed).integers(1, bundle.manifest.items + 1, count)
    return [bundle.item_id(int(row)) for row in rows]


@pytest.mark.slow(8)
@pytest.mark.parametrize("kind", KINDS)
def test_an_app_that_was_killed_ranks_as_if_it_had_gone_on(tmp_path, kind):
    bundle = Bundle.open(GOLDEN / kind)
    clicks = ids(bundle, 37)
    command = [sys.executable, "-c", APP, str(GOLDEN / kind), str(tmp_path / "store")]
    for part in (clicks[:20], clicks[20:]):
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
        ) as app:
            for item in part:
                app.stdin.write(item + "\n")
                app.stdin.flush()
                scores = json.loads(app.stdout.readline())
            app.send_signal(signal.SIGKILL)
    with Session(bundle) as never_killed:
        for item in clicks:
            never_killed.click(item)
        expected = never_killed.score_rows(everything(never_killed))
    np.testing.assert_array_equal(np.float32(scores), expected)
    with ClickStore.open(tmp_path / "store") as store, Session(bundle, store=store) as session:
        assert [item for item, _ in store.clicks()] == clicks
        assert (session.restored, session.not_restored) == (37, 0)
        np.testing.assert_array_equal(session.score_rows(everything(session)), expected)


def test_a_session_without_a_store_scores_the_same(graphs, store):
    with Session(graphs) as bare, Session(graphs, store=store) as session:
        for item in ids(graphs.bundle, 25):
            bare.click(item)
            session.click(item)
            np.testing.assert_array_equal(
                bare.score_rows(everything(bare)), session.score_rows(everything(session))
            )


def test_items_that_the_bundle_does_not_know_are_left_out_counted_and_kept(graphs, store):
    known = ids(graphs.bundle, 4)
    for item in ["of an old bundle", *known, "another"]:
        store.click(item)
    with Session(graphs, store=store) as session, Session(graphs) as expected:
        assert (session.restored, session.not_restored) == (4, 2)
        expected.preload(known)
        np.testing.assert_array_equal(
            session.score_rows(everything(session)), expected.score_rows(everything(expected))
        )
    assert len(store.clicks()) == 6, "a later bundle may know them again"


def test_the_session_of_another_bundle_goes_on_with_the_clicks(graphs, store):
    other = Bundle.open(GOLDEN / "causal-carrying")
    with Session(graphs, store=store) as session:
        for item in ids(graphs.bundle, 6):
            session.click(item)
    with Session(other, store=store) as session:
        assert session.restored + session.not_restored == 6
        session.click(other.item_id(1))
    assert len(store.clicks()) == 7


def test_clicks_are_stored_by_id_whether_given_by_id_or_by_row_and_preloaded_ones_are_not(
    graphs, store
):
    bundle = graphs.bundle
    with Session(graphs, store=store) as session:
        session.preload([bundle.item_id(9)])
        session.click(bundle.item_id(3))
        session.click_row(5)
        with pytest.raises(UnknownItem):
            session.click("no such item")
    assert [item for item, _ in store.clicks()] == [bundle.item_id(3), bundle.item_id(5)]


def test_a_click_is_stored_only_after_h_was_sent_and_the_ranking_prepared(
    graphs, store, monkeypatch
):
    order = []
    with Session(graphs, CorrectionLink.to("http://127.0.0.1:9", graphs.bundle), store=store) as s:
        monkeypatch.setattr(s.link, "ask", lambda hidden, position: order.append("ask") or 1)
        monkeypatch.setattr(s._scn, "prepare", lambda: order.append("prepare"))
        monkeypatch.setattr(store, "click", lambda item: order.append("store"))
        s.click_row(3)
    assert order == ["ask", "prepare", "store"]


def test_faults_of_the_disk_never_reach_the_ranking(graphs, store, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with Session(graphs, store=store) as session, Session(graphs) as bare:
        for number, item in enumerate(ids(graphs.bundle, 20)):
            if number == 5:
                monkeypatch.setattr(os, "pwrite", full)
            if number == 10:
                store.close()
            session.click(item)
            bare.click(item)
            np.testing.assert_array_equal(
                session.rerank_rows(everything(session)).scores,
                bare.rerank_rows(everything(bare)).scores,
            )
        session.shown([graphs.bundle.item_id(1)])
    assert store.troubles[StoreTrouble.DISK_FULL] >= 5
    assert store.troubles[StoreTrouble.CLOSED] == 11


def test_lists_shown_reach_the_store_and_need_none(graphs, store):
    bundle = graphs.bundle
    shown = [bundle.item_id(row) for row in (4, 3, 2)]
    with Session(graphs, store=store) as session:
        session.shown(shown)
        session.click_row(3)
    assert [(one.items, one.clicked) for one in store.lists()] == [(tuple(shown), (1,))]
    with Session(graphs) as bare:
        bare.shown(shown)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_stored", [True, False])
def test_a_session_that_forgot_is_as_good_as_new(kind, is_stored, store):
    graphs = Graphs(Bundle.open(GOLDEN / kind))
    own = store if is_stored else None
    with Session(graphs, store=own) as session, Session(graphs) as new:
        for item in ids(graphs.bundle, 27):
            session.click(item)
        session.forget()
        assert not session.score_rows(everything(session)).any()
        assert session.ticket == 0
        assert store.clicks() == []
        for item in ids(graphs.bundle, 3, seed=1):
            session.click(item)
            new.click(item)
        np.testing.assert_array_equal(
            session.score_rows(everything(session)), new.score_rows(everything(new))
        )


def test_forgetting_the_store_lets_its_sessions_forget(graphs, store):
    with Session(graphs, store=store) as session:
        session.click_row(3)
        store.forget()
        assert not session.score_rows(everything(session)).any()


def test_a_session_forgets_though_the_files_cannot_be_removed(graphs, store, monkeypatch):
    def refuse(path, missing_ok=False):
        raise OSError(errno.EPERM, "Operation not permitted")

    with Session(graphs, store=store) as session:
        session.click_row(3)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", refuse)
            with pytest.raises(NotForgotten):
                session.forget()
        assert not session.score_rows(everything(session)).any()


@pytest.mark.parametrize("hangs_up", [False, True])
def test_after_forgetting_no_correction_is_applied_and_no_h_sent_that_waited_or_got_no_answer(
    graphs, store, fake_cloud, eventually, hangs_up
):
    wire = Wire(graphs.bundle.manifest.model)
    good = answer(bytes(wire.answer_bytes("row")), version=graphs.bundle.version)
    asked, go_on = threading.Event(), threading.Event()

    def slow(request):
        if len(cloud.requests) != 2:
            return good
        asked.set()
        go_on.wait(10)
        return None if hangs_up else good  # None: the link would ask once more

    cloud = fake_cloud(slow)
    link = CorrectionLink.to(cloud.url, graphs.bundle, budget=PATIENT)
    with Session(graphs, link, Budget(tolerance_ms=5), store=store) as session:
        session.click_row(2)
        assert session.settle(5).outcome is Outcome.APPLIED
        session.click_row(3)
        assert asked.wait(10)
        session.click_row(4)  # waits behind the one in flight
        session.forget()
        go_on.set()
        assert session.settle(1) is None
        assert session.rerank_rows(everything(session)).outcome is None
        eventually(lambda: not link._owned_by_worker)
        session.click_row(5)
        assert session.settle(5).outcome is Outcome.APPLIED
        sent = wire.encode_hidden(session._scn.hidden[:1])
    assert [body for _, body in cloud.requests[2:]] == [sent]


def test_a_restored_session_asks_for_its_correction_at_once(graphs, store, fake_cloud, eventually):
    body = bytes(Wire(graphs.bundle.manifest.model).answer_bytes("row"))
    cloud = fake_cloud(lambda request: answer(body, version=graphs.bundle.version))
    store.click(graphs.bundle.item_id(3))
    link = CorrectionLink.to(cloud.url, graphs.bundle, budget=PATIENT)
    with Session(graphs, link, PATIENT, store=store) as session:
        eventually(lambda: cloud.requests)
        assert session.rerank_rows(everything(session)).outcome is Outcome.APPLIED
        assert len(cloud.requests) == 1


def test_the_program_of_the_page_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "how-to" / "remember-clicks.md").read_text("utf-8")
    program = page.split("```python\n")[1].split("```")[0]
    bundle = Bundle.open(GOLDEN / "causal-sliding")
    for row, item in enumerate(("22423", "47566", "85123A"), 1):
        assert item in program
        program = program.replace(item, bundle.item_id(row))
    (tmp_path / "bundle").symlink_to(GOLDEN / "causal-sliding")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        exec(compile(program, "remember-clicks.md", "exec"), {})
    assert capsys.readouterr().out.split()[::5] == ["0", "1"]
    with ClickStore.open(tmp_path / "clicks") as store:
        assert len(store.clicks()) == len(store.lists()) == 2
        assert all(one.clicked == (0,) for one in store.lists())
