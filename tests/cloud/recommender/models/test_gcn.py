"""The GCN's own promises."""

import torch

from cloud_service.recommender.models.gcn import GCN, gcn_of, last_click
from shared.model import ModelSettings


def test_the_last_click_is_found_behind_zero_rows_in_the_middle():
    hidden = torch.zeros(3, 4, 2)
    hidden[0, 3] = 1.0
    hidden[1, [0, 2]] = 1.0
    assert last_click(hidden).argmax(1).tolist() == [3, 2, 0]


def test_all_forms_speak_the_same_shapes():
    hidden = torch.randn(2, 10, 64)
    for form in ("released", "causal", "transformer"):
        correction = gcn_of(ModelSettings(gcn=form))(hidden)
        assert correction.attn.shape == (2, 4, 10, 10)
        assert correction.bias.shape == (2, 4, 10, 16)


def test_the_causal_form_never_corrects_over_later_clicks():
    attn = GCN(ModelSettings(gcn="causal"))(torch.randn(2, 10, 64)).attn
    assert not attn.triu(1).any()
    assert attn.tril().any()


def test_padding_after_the_last_click_changes_nothing_in_its_row():
    torch.manual_seed(0)
    for form in ("released", "causal", "transformer"):
        gcn = gcn_of(ModelSettings(gcn=form))
        hidden = torch.randn(1, 10, 64)
        hidden[:, 6:] = 0
        longer = hidden.clone()
        longer[:, 6:] = torch.randn(4, 64)
        torch.testing.assert_close(gcn.rows(hidden).bias[:, :, 5], gcn.rows(longer).bias[:, :, 5])


def test_a_transformer_gcn_begins_without_a_correction():
    correction = gcn_of(ModelSettings(gcn="transformer"))(torch.randn(2, 10, 64))
    assert not correction.attn.any()
    assert not correction.bias.any()
