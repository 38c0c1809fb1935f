"""A projected GCN: it finds the clicks, follows its teachers, leaves the device's half alone."""

import numpy as np
import onnxruntime
import pytest
import torch

from cloud_service.recommender.export.cloud_graphs import export_cloud_graphs
from cloud_service.recommender.models.baselines.item_knn import ItemKNN
from cloud_service.recommender.models.baselines.sasrec import SASRec
from cloud_service.recommender.models.cocorrrec import CoCorrRec, ProjectedCoCorrRec
from cloud_service.recommender.models.projected import (
    LEFT_OUT,
    ItemResiduals,
    ProjectedGCN,
    pack_residuals,
    solve,
    unpack_residuals,
)
from cloud_service.recommender.models.recommender import at_last
from cloud_service.recommender.models.scn import SCN
from cloud_service.recommender.training.tune_knn import KNNSettings, item_knn
from shared.model import ModelSettings
from shared.projected import ProjectedCorrection

ITEMS = 300
SETTINGS = ModelSettings(dim=32, heads=2, gcn="projected", fusion="shift", projected_items=100)
NOBODY = torch.zeros(40, dtype=torch.int64)


def model_of(teachers, **changes):
    torch.manual_seed(5)
    model = ProjectedCoCorrRec(ITEMS, SETTINGS, init_std=0.5, teachers=teachers, **changes).eval()
    return model.requires_grad_(False)


def sasrec(seed=1):
    torch.manual_seed(seed)
    found = SASRec(ITEMS, length=10, dim=48, heads=2, layers=1, dropout=0.0).requires_grad_(False)
    found.item_embedding.mul_(25)
    return found


@pytest.fixture
def clicks():
    drawn = torch.randint(1, ITEMS + 1, (40, 10), generator=torch.Generator().manual_seed(8))
    for row in range(9):
        drawn[row, row + 1 :] = 0
    return drawn


def test_the_clicks_behind_h_are_found(clicks):
    model = model_of([sasrec()])
    assert torch.equal(model.gcn.clicks(model.scn.hidden(clicks)), clicks)


def test_corrected_scores_are_nearer_to_the_teachers_than_the_devices_own(clicks):
    model = model_of([sasrec(1), sasrec(2)])
    model.gcn.sharpness.fill_(0.3)  # these teachers differ far more than trained ones
    hidden = model.scn.hidden(clicks)
    local = model.gcn.local_state(hidden)
    wanted = model.gcn.targets(model.gcn.scores(local, clicks), clicks)
    best = wanted.topk(50, dim=1).indices

    def distance(scores):
        missing = (wanted - scores).gather(1, best)
        return (missing - missing.mean(1, keepdim=True)).square().mean(1)

    corrected = model.score_all(model.last_states(clicks, NOBODY))
    before, after = distance(model.scn.score_all(local)), distance(corrected)
    assert float((after < before).float().mean()) > 0.9
    assert after.mean() < 0.6 * before.mean()


def test_a_teacher_that_is_the_device_itself_corrects_nothing(clicks):
    model = model_of([])
    assert not model.row(model.scn.hidden(clicks))[:, 2 * SETTINGS.boosted_items :].any()
    corrected, alone = model.last_states(clicks, NOBODY), model.scn.last_states(clicks, NOBODY)
    assert torch.equal(model.score_all(corrected), model.scn.score_all(alone))


def test_without_its_correction_a_device_is_the_scn_alone(clicks):
    model = model_of([sasrec()])
    alone = model.scn.last_states(clicks, NOBODY)
    torch.testing.assert_close(model.gcn.local_state(model.scn.hidden(clicks)), alone)
    corrected = model.score_all(model.last_states(clicks, NOBODY))
    assert not torch.allclose(corrected, model.scn.score_all(alone), atol=1e-2)


def test_the_best_items_are_boosted_and_score_among_each_other_as_the_teachers_want(clicks):
    model = model_of([sasrec(1), sasrec(2)])
    hidden = model.scn.hidden(clicks)
    scores = model.gcn.scores(model.gcn.local_state(hidden), clicks)
    wanted = model.gcn.targets(scores, clicks)
    best = wanted.topk(SETTINGS.boosted_items, dim=1).indices
    items, residuals = unpack_residuals(model.gcn.last_row(hidden)[0].flatten(1))
    assert torch.equal(items, best + 1)
    assert residuals.abs().mean() > 0.1
    corrected = model.score(model.last_states(clicks, NOBODY), best + 1)
    torch.testing.assert_close(
        corrected - corrected[:, :1],
        wanted.gather(1, best) - wanted.gather(1, best[:, :1]),
        atol=1e-3,
        rtol=1e-3,
    )


def test_a_list_is_scored_as_the_whole_catalogue_is(clicks):
    model = model_of([sasrec()])
    states = model.last_states(clicks, NOBODY)
    everything = model.score_all(states)
    lists = torch.randint(1, ITEMS + 1, (40, 30), generator=torch.Generator().manual_seed(2))
    lists[:, :5] = unpack_residuals(
        model.gcn.last_row(model.scn.hidden(clicks))[0].flatten(1)
    ).items[:, :5]
    torch.testing.assert_close(model.score(states, lists), everything.gather(1, lists - 1))


@pytest.mark.parametrize("number", [1, 2047, 2048, 20_033, 2048**2 - 1])
def test_the_number_of_a_boosted_item_survives_float16(number):
    width, room = SETTINGS.heads * SETTINGS.segment, SETTINGS.boosted_items
    row = pack_residuals(ItemResiduals(torch.tensor([[number]]), torch.tensor([[0.5]])), width)[0]
    at = row.nonzero().flatten().tolist()
    wanted = {0: number // 2048, room: number % 2048, 2 * room: 0.5}
    assert {place: float(row[place]) for place in at} == {k: v for k, v in wanted.items() if v}
    items, residuals = unpack_residuals(row.half().float())
    assert items.tolist() == [number] + [0] * (room - 1)
    assert residuals[0] == 0.5


def test_the_cloud_lays_a_correction_out_as_the_wire_says(clicks):
    model = model_of([sasrec()])
    hidden = model.scn.hidden(clicks)
    shift, boosted = model.gcn.fitted(hidden)
    attn, bias = model.gcn.last_row(hidden)
    for user in range(len(clicks)):
        arrays = (array[user].numpy() for array in (shift, boosted.items, boosted.residuals))
        packed = ProjectedCorrection(*arrays).pack(SETTINGS)
        np.testing.assert_array_equal(attn[user].numpy(), packed.attn)
        np.testing.assert_array_equal(bias[user].numpy(), packed.bias)


def test_a_catalogue_whose_numbers_would_not_fit_is_refused():
    scn = SCN(1, ModelSettings(dim=4, heads=1))
    scn.items = 2048**2 + 1
    with pytest.raises(ValueError, match="at most 4,194,304 items"):
        ProjectedGCN(scn, [], seen_left_out=False)


def test_items_that_were_clicked_are_not_boosted_where_they_are_left_out():
    torch.manual_seed(5)
    settings = SETTINGS.model_copy(update={"projected_items": 16})
    model = ProjectedCoCorrRec(
        12, settings, init_std=0.5, teachers=[], seen_left_out=True
    ).requires_grad_(False)
    clicks = torch.arange(1, 11)[None]
    items, residuals = unpack_residuals(model.gcn.last_row(model.scn.hidden(clicks))[0].flatten(1))
    assert sorted(items[0].tolist()) == [0] * (len(items[0]) - 2) + [11, 12]
    assert residuals.abs().max() < 10


def test_the_row_of_every_prefix_is_what_its_last_click_would_be_sent(clicks):
    model = model_of([sasrec()])
    states = model.states(clicks, NOBODY)
    torch.testing.assert_close(
        at_last(states, clicks), model.last_states(clicks, NOBODY), atol=1e-4, rtol=1e-4
    )
    fewer = model.last_states(clicks[20:, :4], NOBODY[20:])
    torch.testing.assert_close(states[20:, 3], fewer, atol=1e-4, rtol=1e-4)


def test_the_full_form_is_zero_but_for_the_last_clicks_row(clicks):
    model = model_of([sasrec()])
    hidden = model.scn.hidden(clicks)
    (attn, bias), rows = model.gcn(hidden), model.gcn.last_row(hidden)
    for user, last in enumerate((clicks > 0).sum(1) - 1):
        for full, part in zip((attn, bias), rows, strict=True):
            assert torch.equal(full[user, :, last], part[user])
            assert torch.count_nonzero(full[user]) == torch.count_nonzero(part[user]) > 0


def test_what_was_clicked_is_not_wanted_where_it_is_left_out(clicks):
    teachers = [sasrec()]
    for left_out in (False, True):
        gcn = model_of(teachers, seen_left_out=left_out).gcn
        scores = [torch.ones(40, ITEMS)] * 2
        gone = gcn.targets(scores, clicks) == LEFT_OUT
        assert int(gone.sum()) == left_out * sum(len(set(row.tolist()) - {0}) for row in clicks)


@pytest.mark.parametrize("ablation", ["only-attn", "only-bias", "shuffled-users"])
def test_an_ablation_reaches_a_projected_correction(clicks, ablation):
    model = model_of([sasrec()], ablation=ablation)
    whole = model_of([sasrec()])
    found = model.score_all(model.last_states(clicks, NOBODY))
    full = whole.score_all(whole.last_states(clicks, NOBODY))
    alone = model.scn.score_all(model.scn.last_states(clicks, NOBODY))
    assert not torch.allclose(found, full, atol=1e-2)
    untouched = (found - alone).abs().sum(1) < 1e-3
    assert not untouched.any()
    changed = (found - alone).abs().gt(1e-4).sum(1)
    assert bool((changed <= SETTINGS.boosted_items).all()) == (ablation == "only-attn")


@pytest.mark.slow
def test_both_graphs_send_what_pytorch_computes_from_every_kind_of_teacher(small_split):
    torch.manual_seed(3)
    items = small_split.log.item_count
    tables = item_knn(small_split, 10, KNNSettings(), near=_neighbours(small_split))
    attention = SASRec(items, length=10, dim=48, heads=2, layers=1, dropout=0.0)
    teachers = [tables, attention, SCN(items, ModelSettings(dim=48, heads=2, readout="mlp"))]
    model = ProjectedCoCorrRec(
        items, SETTINGS, init_std=0.5, teachers=teachers, seen_left_out=True
    ).eval()
    clicks = torch.randint(1, items + 1, (7, 10))
    clicks[0, 3:] = 0
    hidden = model.scn.hidden(clicks).detach()
    with torch.no_grad():
        wanted = {"gcn": model.gcn(hidden), "gcn_row": model.gcn.last_row(hidden)}
    for name, graph in export_cloud_graphs(model.gcn).items():
        session = onnxruntime.InferenceSession(graph)
        for part in (slice(0, 1), slice(0, 7)):
            found = session.run(None, {"hidden": hidden[part].numpy()})
            for one, other in zip(found, wanted[name], strict=True):
                np.testing.assert_allclose(one, other[part].numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.slow(20)
def test_graphs_of_more_than_a_million_items_open():
    """At that size the exporter no longer works out constants, and their types have to agree."""
    settings = ModelSettings(dim=8, heads=1, gcn="projected", fusion="shift")
    model = ProjectedCoCorrRec((1 << 20) + 1, settings, teachers=[], seen_left_out=True).eval()
    clicks = torch.tensor([[5, 1 << 20] + 8 * [0]])
    hidden = model.scn.hidden(clicks).detach()
    graph = export_cloud_graphs(model.gcn)["gcn_row"]
    attn, bias = onnxruntime.InferenceSession(graph).run(None, {"hidden": hidden.numpy()})
    assert np.isfinite(attn).all()
    assert np.isfinite(bias).all()
    named_ones = unpack_residuals(torch.from_numpy(attn).flatten(1)).items[0]
    assert torch.equal(
        named_ones, unpack_residuals(model.gcn.last_row(hidden)[0].flatten(1)).items[0]
    )


def _neighbours(split):
    from cloud_service.recommender.training.neighbours import fit_neighbours

    return fit_neighbours(split)


def test_the_fit_is_solved_about_and_with_more_steps_exactly():
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(6, 30, 64, generator=random)
    matrix = rows.transpose(1, 2) @ rows / 30 + 0.1 * torch.eye(64)
    right = torch.randn(6, 64, generator=random)
    wanted = torch.linalg.solve(matrix, right)
    assert float((solve(matrix, right, steps=200) - wanted).norm() / wanted.norm()) < 1e-3
    found = solve(matrix, right)
    assert float((found - wanted).norm() / wanted.norm()) < 0.1
    exact = solve(matrix.double(), right.double()).float()
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-5)


def test_tables_of_any_number_of_neighbours_are_loaded(small_split):
    full = item_knn(small_split, 10, KNNSettings(), near=_neighbours(small_split))
    gcn = ProjectedGCN(
        CoCorrRec(full.items, SETTINGS).scn,
        [ItemKNN.empty(full.items, 10)],
        seen_left_out=False,
    )
    teacher = gcn.teachers[0]
    gcn.load_state_dict(
        gcn.state_dict() | {f"teachers.0.{name}": v for name, v in full.state_dict().items()}
    )
    states = torch.tensor([[3, 5, 0]])
    assert torch.equal(teacher.score_all(states), full.score_all(states))


@pytest.mark.parametrize("size", [1e-20, 1e-4, 1.0, 1e10])
def test_a_fit_that_is_solved_early_stays_finite_whatever_its_size(size):
    """Conjugate gradients divided by what rounding had left, now and then by nothing."""
    torch.manual_seed(0)
    values = torch.tensor([3e-4, 1e-3, 2e-3]).repeat(1000, 22)[:, :64]  # they are solved in three
    turn = torch.linalg.qr(torch.randn(64, 64)).Q
    matrix = turn @ torch.diag_embed(values) @ turn.T
    right = torch.randn(1000, 64) * size
    right[0] = 0.0
    found = solve(matrix, right)
    assert found.isfinite().all()
    assert not found[0].any()
    wanted = torch.linalg.solve(matrix, right)
    assert float((found - wanted).norm() / wanted.norm()) < 0.1
