"""The TTT block against its own definition, and what makes one-pass training right."""

from typing import get_args

import pytest
import torch

from cloud_service.recommender.models.cocorrrec import CoCorrRec
from cloud_service.recommender.models.gcn import TransformerGCN, gcn_of
from cloud_service.recommender.models.scn import SCN
from cloud_service.recommender.models.ttt import State
from cloud_service.recommender.models.ttt_parts import HeadNorm, match_moments, rotate_pairs
from cloud_service.recommender.recipe import Ablation
from shared.model import PAPER, ModelSettings

SHAPES = [
    PAPER,
    ModelSettings(gcn="released", scoring="tower"),
    ModelSettings(length=12, dim=24, heads=3, segment=4, gcn="causal"),
    ModelSettings(length=12, dim=24, heads=3, segment=4, gcn="released"),
    ModelSettings(length=3, dim=8, heads=2, segment=1, gcn="causal"),
    ModelSettings(length=12, dim=24, heads=3, segment=4, gcn="transformer", gcn_dim=12),
    ModelSettings(gcn="causal", fusion="shift"),
    ModelSettings(length=12, dim=24, heads=3, segment=4, readout="mlp", gcn="causal"),
    ModelSettings(
        length=12, dim=24, heads=3, segment=4, gcn="transformer", gcn_dim=12, fusion="shift"
    ),
    ModelSettings(gcn="causal", inner_step=1),
    ModelSettings(gcn="causal", inner_step=5, readout="mlp"),
    ModelSettings(length=12, dim=24, heads=3, segment=4, gcn="causal", inner_step=2),
    ModelSettings(
        length=12, dim=24, heads=3, segment=4, gcn="transformer", gcn_dim=12, fusion="shift",
        inner_step=1,
    ),
]  # fmt: skip


def model_of(settings: ModelSettings) -> CoCorrRec:
    torch.manual_seed(5)
    model = CoCorrRec(50, settings, init_std=0.5)
    with torch.no_grad():
        model.scn.block.fusion_attn.fill_(0.6)
        model.scn.block.inner_bias.normal_()
        if isinstance(model.gcn, TransformerGCN):  # whose rows start at zero
            model.gcn.attn.weight.normal_()
            model.gcn.bias.weight.normal_()
    return model.eval()


def clicks_of(settings: ModelSettings, lengths: list[int]) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    clicks = torch.randint(1, 51, (len(lengths), settings.length), generator=random)
    return clicks * (torch.arange(settings.length) < torch.tensor(lengths)[:, None])


def test_the_closed_gradient_is_autograds():
    torch.manual_seed(0)
    norm = HeadNorm(4, 16)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    x = torch.randn(2, 4, 10, 16, requires_grad=True)
    target = torch.randn(2, 4, 10, 16)
    (0.5 * (norm(x) - target).square().sum()).backward()
    torch.testing.assert_close(norm.loss_gradient(x, target), x.grad, atol=1e-5, rtol=1e-4)


def test_rope_turns_neighbouring_features():
    turned = rotate_pairs(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert turned.tolist() == [-2.0, 1.0, -4.0, 3.0]


def test_eq_14_gives_a_correction_the_moments_of_what_it_corrects():
    torch.manual_seed(0)
    value, correction = torch.randn(3, 16) * 5 + 2, torch.randn(3, 16)
    matched = match_moments(correction, value)
    torch.testing.assert_close(matched.mean(-1), value.mean(-1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(matched.std(-1), value.std(-1), atol=1e-4, rtol=1e-4)


def test_a_constant_correction_becomes_the_mean_and_not_nan():
    value = torch.randn(2, 10)
    matched = match_moments(torch.full((2, 10), 3.0), value)
    torch.testing.assert_close(matched, value.mean(-1, keepdim=True).expand(2, 10))


def test_one_segment_does_what_one_click_at_a_time_does_by_definition():
    """Eq. 5 and 3 with a loop over clicks, no dual form, no correction."""
    model = model_of(ModelSettings(length=6, dim=8, heads=1, segment=6, gcn="causal"))
    block = model.scn.block
    hidden = model.scn.hidden(clicks_of(model.settings, [6]))
    state = block.initial_state(1)
    terms = block.terms(hidden, state)
    expected = []
    for t in range(6):
        weight, bias = state.weight[0, 0], state.bias[0, 0, 0]
        for s in range(t + 1):
            rate = block.token_scale()[t] * terms.lr[0, 0, s]
            weight = weight - rate * torch.outer(terms.key[0, 0, s], terms.gradient[0, 0, s])
            bias = bias - rate * terms.gradient[0, 0, s]
        inner = terms.query[0, 0, t] @ weight + bias
        expected.append(terms.query[0, 0, t] + block.inner_norm(inner[None, None])[0, 0])
    found = block.rows(terms, state)
    wanted = block.post_norm(torch.stack(expected)) @ block.output.T
    torch.testing.assert_close(found[0], wanted, atol=1e-5, rtol=1e-4)
    carried = block.carry(terms, state)
    torch.testing.assert_close(carried.weight[0, 0], weight, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("inner_step", [1, 2, 3])
def test_inner_steps_do_what_updates_one_after_the_other_do_by_definition(inner_step):
    """Eq. 5 and 3 with a loop over clicks: gradients at the state that the last full step left,
    and positions that begin anew in each step."""
    model = model_of(
        ModelSettings(length=6, dim=8, heads=1, segment=6, gcn="causal", inner_step=inner_step)
    )
    block = model.scn.block
    with torch.no_grad():
        block.token_scale_offset.normal_(0.3, 0.1)
    hidden = model.scn.hidden(clicks_of(model.settings, [6]))
    initial = block.initial_state(1)
    weight, bias = initial.weight[0, 0], initial.bias[0, 0, 0]
    expected = []
    for t in range(6):
        at = t % inner_step
        if at == 0:
            base_weight, base_bias, taken = weight, bias, []
        query, key, value = (
            hidden[0, t] @ projection.T for projection in (block.query, block.key, block.value)
        )
        query, key = (x * block.cos[at] + rotate_pairs(x) * block.sin[at] for x in (query, key))
        output = (key @ base_weight + base_bias)[None, None]
        gradient = block.inner_norm.loss_gradient(output, (value - key)[None, None])[0, 0]
        taken.append((key, block.inner_lr(hidden)[0, 0, t] * gradient))
        scale = block.token_scale()[at]
        weight = base_weight - scale * sum(torch.outer(key, step) for key, step in taken)
        bias = base_bias - scale * sum(step for _, step in taken)
        inner = block.inner_norm((query @ weight + bias)[None, None])
        expected.append(query + inner[0, 0])
    terms = block.terms(hidden, initial)
    wanted = block.post_norm(torch.stack(expected)) @ block.output.T
    torch.testing.assert_close(block.rows(terms, initial)[0], wanted, atol=1e-5, rtol=1e-4)
    carried = block.carry(terms, initial)
    torch.testing.assert_close(carried.weight[0, 0], weight, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(carried.bias[0, 0, 0], bias, atol=1e-6, rtol=1e-4)


def test_inner_steps_within_a_segment_rank_as_segments_of_that_size_do():
    """What the paper's Figure 6 calls a segment is the inner step; H may cover more."""
    shape = {"length": 12, "dim": 24, "heads": 3, "gcn": "causal"}
    torch.manual_seed(4)
    small = SCN(50, ModelSettings(segment=2, **shape), init_std=0.5)
    large = SCN(50, ModelSettings(segment=4, inner_step=2, **shape), init_std=0.5)
    large.load_state_dict(small.state_dict())
    hidden = small.hidden(clicks_of(small.settings, [12, 7, 1]))
    with torch.no_grad():
        torch.testing.assert_close(small(hidden), large(hidden), atol=2e-5, rtol=1e-4)
        state = large.carried(hidden[:, :4])
        after_two = small.carried(hidden[:, 2:4], small.carried(hidden[:, :2]))
        torch.testing.assert_close(state.weight, after_two.weight, atol=1e-6, rtol=1e-4)


def test_an_inner_step_that_is_the_segment_is_no_setting_of_its_own():
    settings = ModelSettings(inner_step=10)
    assert settings == ModelSettings()
    assert "inner_step" not in settings.model_dump_json()
    assert ModelSettings.model_validate_json(settings.model_dump_json()) == settings
    shorter = ModelSettings(inner_step=2)
    assert (shorter.hidden_bytes, shorter.correction_bytes) == (2560, 4160)
    assert ModelSettings.model_validate_json(shorter.model_dump_json()).inner_step == 2


@pytest.mark.parametrize("settings", SHAPES, ids=str)
def test_every_position_of_one_pass_is_what_that_prefix_alone_gives(settings):
    """The claim one-pass training stands on, in both forms, across segments."""
    model = model_of(settings)
    clicks = clicks_of(settings, [settings.length, max(1, settings.length - 1)])
    with torch.no_grad():
        together = model(clicks)
        for row, sequence in enumerate(clicks):
            for last in range(int((sequence > 0).sum())):
                prefix = sequence * (torch.arange(settings.length) <= last)
                hidden = model.scn.hidden(prefix[None])
                correction = model.gcn(model.scn.segments(hidden).flatten(0, 1))
                alone = model.scn.corrected(model.scn(hidden, correction), correction)
                torch.testing.assert_close(
                    together[row, last], alone[0, last], atol=2e-5, rtol=1e-4
                )


@pytest.mark.parametrize("settings", SHAPES, ids=str)
def test_a_closed_gate_gives_the_local_states_to_the_last_bit(settings):
    model = model_of(settings)
    clicks = clicks_of(settings, [settings.length, 2])
    with torch.no_grad():
        local = model.scn.user_state(model.scn(model.scn.hidden(clicks), prefixes=True))
        gated = model(clicks, torch.zeros(2))
        opened = model(clicks, torch.ones(2))
    assert torch.equal(local, gated)
    if settings.segment > 1:  # a row of one has no deviation for attn to shift
        assert not torch.allclose(local, opened)


@pytest.mark.parametrize("form", ["released", "causal", "transformer"])
def test_the_compact_form_is_the_last_clicks_row_of_the_full_form(form):
    settings = ModelSettings(gcn=form)
    torch.manual_seed(2)
    scn, gcn = SCN(50, settings), gcn_of(settings)
    hidden = scn.hidden(clicks_of(settings, [10, 4, 1]))
    with torch.no_grad():
        full, (attn, bias) = gcn(hidden), gcn.last_row(hidden)
    for user, last in enumerate([9, 3, 0]):
        torch.testing.assert_close(attn[user], full.attn[user, :, last])
        torch.testing.assert_close(bias[user], full.bias[user, :, last])


def test_later_clicks_do_not_reach_earlier_positions():
    model = model_of(PAPER)
    clicks = clicks_of(model.settings, [10])
    other = clicks.clone()
    other[0, 6:] = torch.tensor([1, 2, 3, 4])
    with torch.no_grad():
        one, two = model(clicks), model(other)
    torch.testing.assert_close(one[0, :6], two[0, :6])
    assert not torch.allclose(one[0, 6:], two[0, 6:])


@pytest.mark.parametrize("inner_step", [None, 1, 2])
@pytest.mark.parametrize("readout", ["norm", "mlp"])
def test_a_history_in_segments_is_the_state_carried_from_one_to_the_next(readout, inner_step):
    settings = ModelSettings(
        length=12, dim=24, heads=3, segment=4, readout=readout, gcn="causal", inner_step=inner_step
    )
    model = model_of(settings)
    hidden = model.scn.hidden(clicks_of(settings, [12]))
    with torch.no_grad():
        whole = model.scn(hidden)
        state: State | None = None
        for start in (0, 4, 8):
            part = hidden[:, start : start + 4]
            torch.testing.assert_close(model.scn(part, state=state), whole[:, start : start + 4])
            state = model.scn.carried(part, state)


def test_the_padding_item_has_a_zero_row_and_takes_no_gradient():
    model = model_of(PAPER).train()
    clicks = clicks_of(model.settings, [3])
    model(clicks)[0, 2].sum().backward()
    assert not model.scn.hidden(torch.zeros(1, 10, dtype=torch.int64)).any()
    assert not model.scn.item_embedding.grad[0].any()
    assert model.scn.item_embedding.grad[clicks[0, 2]].any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"dim": 65},
        {"dim": 60, "heads": 4},
        {"length": 15, "segment": 10},
        {"segment": 0},
        {"depth": 2},
        {"gcn": "transformer", "gcn_dim": 126},
        {"gcn": "released", "fusion": "shift"},
        {"inner_step": 3},
        {"inner_step": 20},
        {"inner_step": 0},
        {"inner_step": 2, "gcn": "released"},
    ],
    ids=str,
)
def test_settings_that_make_no_model_are_refused(wrong):
    with pytest.raises(ValueError, match=r"dim|length|segment|depth|shift|inner_step"):
        ModelSettings(**wrong)


@pytest.mark.parametrize("fusion", ["moments", "shift"])
def test_an_ablated_correction_is_what_its_name_says(fusion):
    settings = ModelSettings(gcn="causal", fusion=fusion)
    clicks = clicks_of(settings, [10, 7])
    states = {}
    for ablation in get_args(Ablation):
        torch.manual_seed(5)
        model = CoCorrRec(50, settings, init_std=0.5, ablation=ablation)
        with torch.no_grad():
            model.scn.block.fusion_attn.fill_(0.6)
            states[ablation] = model.eval()(clicks)
            states["no correction"] = model.scn.states(clicks, torch.zeros(2, dtype=torch.int64))
            if ablation == "shuffled-users":
                alone = model(clicks[:1])
                torch.testing.assert_close(alone, states["none"][:1])
    different = list(states.values())
    for index, one in enumerate(different):
        for other in different[index + 1 :]:
            assert not torch.allclose(one, other)
