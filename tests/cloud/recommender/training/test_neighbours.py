"""The neighbours a candidate list is made of, counted by hand."""

import numpy as np
import polars as pl
import pytest

from cloud_service.recommender.data.clicks import split
from cloud_service.recommender.data.prepare import prepare
from cloud_service.recommender.training.neighbours import Counting, fit_neighbours


def test_neighbours_are_what_is_clicked_next_to_an_item_in_training_clicks_only():
    rows = [("u", i, t) for t, i in enumerate("abcab")] + [
        ("v", i, t) for t, i in enumerate("abcc")
    ]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    near = fit_neighbours(split(prepare(frame, name="hand")), Counting(count=2))
    # Training clicks: u a b c, v a b. Items a, b, c are 1, 2, 3; popularity 2, 2, 1.
    # a then b twice at distance 1: weight 2 / sqrt(2 * 2) = 1; then c at distance 2: 0.5 / sqrt(2).
    assert near.ids[1].tolist() == [2, 3]
    np.testing.assert_allclose(near.weights[1], [1.0, 0.5 / 2**0.5], rtol=1e-6)
    # b then c: 1 / sqrt(2); b after a twice counts half: 2 * 0.5 / 2.
    assert near.ids[2].tolist() == [3, 1]
    np.testing.assert_allclose(near.weights[2], [1 / 2**0.5, 0.5], rtol=1e-6)
    assert near.popular.tolist() == [1, 2, 3]
    assert not near.ids[0].any()


def test_candidate_lists_hold_the_next_click_far_more_often_than_popular_items(small_split):
    near = fit_neighbours(small_split)
    log = small_split.log
    last = log.items[small_split.test_positions - 1]
    target = log.items[small_split.test_positions]
    found = np.mean([t in near.ids[i][:20] for i, t in zip(last, target, strict=True)])
    popular = np.isin(target, near.popular[:20]).mean()
    assert found > 1.3 * popular, (found, popular)


@pytest.mark.parametrize("count", [1, 5, 200])
def test_tables_have_the_width_asked_for(small_split, count):
    near = fit_neighbours(small_split, Counting(count=count))
    assert near.ids.shape == near.weights.shape == (small_split.log.item_count + 1, count)
    assert ((near.ids > 0) == (near.weights > 0)).all()
    assert (np.diff(near.weights, axis=1) <= 0).all()
