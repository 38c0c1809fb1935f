"""Events, ranks, memory and samples against the plainest computation."""

import math

import numpy as np
import torch
from torch.nn import functional

from cloud_service.recommender.learning.amortised import fit_amortised, history_sums
from cloud_service.recommender.learning.memory import ItemMemory, fit_memory
from cloud_service.recommender.learning.ranking import cross_entropy, event_ranks, scores_of
from cloud_service.recommender.learning.recall import recall_offsets, sample_weights
from shared.learning import HALF_LIVES, MemorySettings, RecallSettings


def test_a_state_knows_the_clicks_before_it_and_no_other(small_scn, once_events):
    events = once_events
    for event in (5, 20, 44):
        first = int(events.starts[event])
        before = events.items[max(first, event - 5) : event].astype(np.int64)
        window = np.zeros((1, 5), np.int64)
        window[0, : len(before)] = before
        with torch.no_grad():
            nobody = torch.zeros(1, dtype=torch.int64)
            expected = small_scn.last_states(torch.from_numpy(window), nobody)
        torch.testing.assert_close(events.states[event], expected[0])
    assert not events.states[events.offsets[:-1]].any()


def test_ranks_leave_out_what_was_clicked_and_count_ties(once_events):
    events = once_events
    moments = np.array([6, 25, 45])
    shift = torch.full((3, 8), 0.1)
    targets = events.items[moments].astype(np.int64)
    ranks = event_ranks(events, moments, targets, shift)
    for row, moment in enumerate(moments):
        scores = (events.states[moment] + 0.1) @ events.catalogue.T
        seen = set(events.items[events.starts[moment] : moment].tolist())
        shown = [n for n in range(1, 51) if n not in seen and n != targets[row]]
        target = scores[targets[row] - 1]
        assert ranks.greater[row] == sum(bool(scores[n - 1] > target) for n in shown)


def test_the_cross_entropy_is_over_what_rankings_show(once_events):
    events, chosen = once_events, np.array([10, 30])
    loss = cross_entropy(events, chosen, events.states[chosen])
    losses = []
    for event in chosen:
        scores = events.states[event] @ events.catalogue.T
        seen = events.items[events.starts[event] : event].astype(np.int64) - 1
        scores[torch.from_numpy(seen)] = -torch.inf
        losses.append(functional.cross_entropy(scores, events.targets[event] - 1))
    torch.testing.assert_close(loss, torch.stack(losses).mean())


def test_memory_counts_clicks_and_their_age(repeated_events):
    events = repeated_events
    memory = ItemMemory(events, MemorySettings(base=0.5, count=2.0, age=0.25))
    moments = np.array([9, 40])
    scores = memory(moments).add_to(torch.zeros(2, 50))
    for row, moment in enumerate(moments):
        before = events.items[events.starts[moment] : moment].tolist()
        for item in range(1, 51):
            expected = 0.0
            if item in before:
                age = len(before) - 1 - max(at for at, n in enumerate(before) if n == item)
                expected = 0.5 + 2 * math.log1p(before.count(item)) - 0.25 * math.log1p(age)
            assert abs(float(scores[row, item - 1]) - expected) < 1e-5


def test_a_fitted_memory_prefers_what_was_clicked_where_users_click_again(repeated_events):
    chosen = np.flatnonzero(repeated_events.places > 3)
    settings = fit_memory(repeated_events, chosen)
    assert settings.base + settings.count * math.log(2) > 0


def test_history_sums_decay(repeated_events):
    events = repeated_events
    sums = history_sums(events)
    event = int(events.offsets[3]) + 4
    before = events.targets[event - 4 : event]
    for at, life in enumerate(HALF_LIVES):
        weights = 0.5 ** (torch.arange(3, -1, -1) / life)
        expected = (weights.unsqueeze(1) * events.table[before]).sum(0)
        torch.testing.assert_close(sums[event, at], expected)


def test_an_amortised_patch_never_validates_worse_than_none(repeated_events):
    events = repeated_events
    network = fit_amortised(events, np.arange(len(events)))
    with torch.no_grad():
        zero = torch.zeros(1, len(HALF_LIVES), 8)
        assert network(zero, torch.zeros(1, 1), torch.zeros(1, 8)).shape == (1, 8)


def test_recall_interpolates_two_distributions(repeated_events):
    events, settings = repeated_events, RecallSettings(sharpness=2.0, share=0.3)
    scores = scores_of(events, np.array([20]))
    items = torch.tensor([[3, 7, 3, 9]])
    states = events.states[torch.tensor([[11, 12, 13, 14]])]
    weights = sample_weights(events.states[torch.tensor([20])], states, torch.ones(1, 4), settings)
    torch.testing.assert_close(weights.sum(1), torch.ones(1))
    of_items = scores.gather(1, items - 1)
    offsets = recall_offsets(of_items, items, weights, scores.logsumexp(1), settings)
    recalled = scores.scatter_add(1, items - 1, offsets).softmax(1)
    mixed = 0.7 * scores.softmax(1)
    mixed = mixed.scatter_add(1, items - 1, 0.3 * weights)
    torch.testing.assert_close(recalled, mixed, atol=1e-5, rtol=1e-4)


def test_samples_that_are_not_there_weigh_nothing(repeated_events):
    events = repeated_events
    states = events.states[torch.tensor([[11, 12, 13]])]
    there = torch.tensor([[1.0, 0.0, 0.0]])
    weights = sample_weights(events.states[torch.tensor([20])], states, there, RecallSettings())
    torch.testing.assert_close(weights, there)
    none = sample_weights(
        events.states[torch.tensor([20])], states, torch.zeros(1, 3), RecallSettings()
    )
    assert torch.equal(none, torch.zeros(1, 3))
