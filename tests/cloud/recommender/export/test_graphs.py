"""What leaves the cloud computes what was trained: the device's graphs against the model."""

import dataclasses
from datetime import UTC, datetime

import numpy as np
import onnx
import pytest
import torch

from cloud_service.publishing.publish import publish
from cloud_service.recommender.data.clicks import recent
from cloud_service.recommender.export.cloud_graphs import export_cloud_graphs
from cloud_service.recommender.export.device_graphs import export_device_graphs
from cloud_service.recommender.models.baselines.sasrec import SASRec
from cloud_service.recommender.models.cocorrrec import CoCorrRec, ProjectedCoCorrRec, SCNAndGCN
from cloud_service.recommender.models.gcn import TransformerGCN
from cloud_service.recommender.models.scn import SCN
from cloud_service.recommender.ranking.evaluate import user_states
from cloud_service.runtime import open_session
from cloud_service.storage.store import Store
from device_client.bundle import Bundle
from device_client.scn import Graphs
from device_client.session import Session
from shared import bundle as names
from shared.model import PAPER, ModelSettings
from shared.wire import Wire

pytestmark = pytest.mark.slow(40)


def bundle_of(model, split, tmp_path):
    """A bundle on the device without a store: files and a manifest of the model's own."""
    store = Store(tmp_path)
    version = publish(store, model, split, {}, created=datetime(2026, 1, 1, tzinfo=UTC))
    return Bundle.open(store.version_folder(version)), store.version_folder(version)


@pytest.mark.parametrize(
    "settings",
    [
        PAPER,
        ModelSettings(gcn="released", scoring="tower", length=20, history="carry"),
        ModelSettings(length=8, dim=24, heads=3, segment=4, history="window", gcn="causal"),
        ModelSettings(length=8, dim=24, heads=3, segment=4, history="carry", gcn="released"),
        ModelSettings(gcn="transformer", gcn_dim=32, fusion="shift"),
        ModelSettings(length=8, dim=24, heads=3, segment=4, readout="mlp", gcn="causal"),
        ModelSettings(gcn="projected", readout="mlp"),
        ModelSettings(inner_step=1),
        ModelSettings(inner_step=2, readout="mlp"),
        ModelSettings(inner_step=5, length=7),
        ModelSettings(gcn="causal", inner_step=1),
        ModelSettings(gcn="causal", inner_step=2, length=20, history="carry", readout="mlp"),
        ModelSettings(gcn="transformer", gcn_dim=32, fusion="shift", inner_step=5, length=20),
    ],
    ids=[
        "paper",
        "released-carry",
        "window-of-two-segments",
        "carry",
        "transformer-shift",
        "readout",
        "projected",
        "inner-step-of-1",
        "inner-step-of-2-readout",
        "inner-step-of-5-shorter-window",
        "inner-step-of-1-causal",
        "inner-step-of-2-carry",
        "inner-step-of-5-window-of-two-segments",
    ],
)
def test_a_device_scores_every_history_as_the_model_was_evaluated(settings, small_split, tmp_path):
    """Click by click through the bundle's graphs, with the cloud's graph correcting: the same
    scores as the batch evaluation in torch, for short and long histories, in both forms."""
    torch.manual_seed(3)
    items = small_split.log.item_count
    model: SCNAndGCN
    if settings.gcn == "projected":
        teachers = [SASRec(items, length=10, dim=32, heads=2, layers=1, dropout=0.0)]
        model = ProjectedCoCorrRec(items, settings, init_std=0.5, teachers=teachers).eval()
    else:
        model = CoCorrRec(items, settings, init_std=0.5).eval()
    with torch.no_grad():
        model.scn.block.fusion_attn.fill_(0.7)
        if settings.inner_step is not None:
            model.scn.block.inner_bias.normal_(0, 0.3)
            model.scn.block.inner_weight.normal_(0, 0.3)
            model.scn.block.token_scale_offset.normal_(0.2, 0.1)
            model.scn.block.inner_norm.weight.add_(torch.randn(4, 16) * 0.2)
            model.scn.block.inner_norm.bias.normal_(0, 0.2)
        if isinstance(model.gcn, TransformerGCN):  # whose rows start at zero
            model.gcn.attn.weight.normal_()
            model.gcn.bias.weight.normal_()
    bundle, folder = bundle_of(model, small_split, tmp_path)
    graphs, wire = Graphs(bundle), Wire(settings)
    gcn = open_session(str(folder / names.GCN_GRAPH))
    gcn_row = open_session(str(folder / names.GCN_ROW_GRAPH))
    log, user = small_split.log, int(np.argmax(small_split.log.lengths))
    clicks, start = log.sequence(user).tolist(), log.offsets[user]
    candidates = np.arange(1, log.item_count + 1)
    session = Session(graphs)
    for count, click in enumerate(clicks[:-1], 1):
        session.click_row(click)
        if count not in (1, 2, 4, 5, 8, 9, 10, 11, 17, 20, len(clicks) - 1):
            continue
        position = np.array([start + count])
        starts = np.array([start])
        for corrected in (False, True):
            network = model if corrected else model.scn
            users = user_states(network, log.items, starts, position, np.array([0]))
            wanted = network.score_all(users).detach().numpy()[0]
            correction = None
            if corrected:
                hidden = session._scn.hidden[None]
                full = gcn.run(None, {"hidden": hidden})
                place = session._scn.count - 1
                correction = wire.decode_row_at(full[0].tobytes() + full[1].tobytes(), place)
                row = gcn_row.run(None, {"hidden": hidden})
                np.testing.assert_allclose(row[0][0], correction.attn, atol=1e-6)
                np.testing.assert_allclose(row[1][0], correction.bias, atol=1e-6)
            found = session.score_rows(candidates, correction)
            np.testing.assert_allclose(found, wanted, atol=3e-5, rtol=1e-4)


def test_the_compact_form_gives_the_same_scores_as_the_full_one(small_bundle):
    bundle = Bundle.open(small_bundle)
    session, wire = Session(bundle), Wire(bundle.manifest.model)
    gcn = open_session(str(small_bundle / names.GCN_GRAPH))
    gcn_row = open_session(str(small_bundle / names.GCN_ROW_GRAPH))
    candidates = np.arange(1, 60)
    for click in range(1, 14):
        session.click_row(click)
        hidden = session._scn.hidden[None]
        attn, bias = gcn.run(None, {"hidden": hidden})
        row = gcn_row.run(None, {"hidden": hidden})
        full = wire.decode_row_at(attn.tobytes() + bias.tobytes(), session._scn.count - 1)
        compact = wire.decode_row(row[0].tobytes() + row[1].tobytes())
        difference = session.score_rows(candidates, full) - session.score_rows(candidates, compact)
        assert np.abs(difference).max() < 1e-6
        assert (
            np.abs(session.score_rows(candidates, full) - session.score_rows(candidates)).max()
            > 1e-3
        )


def test_the_item_table_is_stored_once_and_no_graph_holds_it(small_model, small_store):
    version = small_store.production()
    folder, files = small_store.version_folder(version), small_store.manifest(version).files
    table = small_model.scn.item_embedding.detach().numpy().tobytes()
    holders = [each for each in files if table[-2048:] in (folder / each.name).read_bytes()]
    roles = {each.name: each.role for each in holders}
    assert sorted(roles) == [names.ITEM_TABLE, names.WEIGHTS]
    assert roles[names.WEIGHTS] == "cloud"


def test_graphs_take_any_number_of_candidates(small_model, small_bundle):
    session = open_session(str(small_bundle / names.RANK_GRAPH))
    prepare = open_session(str(small_bundle / names.PREPARE_GRAPH))
    s = small_model.settings
    table = small_model.scn.item_embedding.detach().numpy()
    for count in (1, 2, 1000):
        scores, output = session.run(
            None,
            {
                "item_table": table,
                "correction": np.zeros((s.heads, 1, s.segment + s.head_dim), np.float32),
                "gate": np.array(0, np.float32),
                "candidates": np.ones(count, np.int64),
            }
            | {each.name: np.zeros(each.shape, np.float32) for each in prepare.get_outputs()},
        )
        assert scores.shape == (1, count)
        assert output.shape == (1, s.dim)


def test_a_correction_that_only_adds_leaves_a_rank_without_the_block(small_split):
    settings = ModelSettings(gcn="projected", gcn_dim=32)
    scn = SCN(small_split.log.item_count, settings)
    graphs = export_device_graphs(scn)
    prepared = open_session(graphs["prepare"]).get_outputs()
    assert [(each.name, each.shape) for each in prepared] == [("user", [1, settings.dim])]
    nodes = [node.op_type for node in onnx.load_from_string(graphs["rank"]).graph.node]
    assert len(nodes) <= 10  # 4 of them without the items it names
    assert not any("Norm" in each or "Reduce" in each for each in nodes)


def test_a_replay_holds_the_held_out_users_and_nobody_else(small_split, small_store):
    path = small_store.replay_path(small_store.production())
    with np.load(path, allow_pickle=False) as replay:
        items, offsets = replay["items"], replay["offsets"]
    log = small_split.log
    assert len(offsets) - 1 == len(small_split.replay_users) == 12
    for place, user in enumerate(small_split.replay_users):
        np.testing.assert_array_equal(
            items[offsets[place] : offsets[place + 1]], log.sequence(user)
        )
    manifest = small_store.manifest(small_store.production())
    assert all("replay" not in entry.name for entry in manifest.files)
    assert dataclasses.asdict(small_split)["train_users"].size == 108
    assert recent(items, offsets[:1], offsets[:1] + 1, 3).tolist() == [[items[0], 0, 0]]


def test_a_graph_holds_no_path_of_the_machine_that_exported_it(small_model):
    graphs = export_device_graphs(small_model.scn) | export_cloud_graphs(small_model.gcn)
    assert graphs
    for name, graph in graphs.items():
        assert b"site-packages" not in graph, name
        assert b".py" not in graph, name
