"""A fleet of simulated devices learns what one device learns."""

import math

import numpy as np
import torch

from cloud_service.recommender.learning.fleet import draw_negatives, learn_shifts, own_clicks
from cloud_service.recommender.learning.step import ShiftScores, TrainingStep
from shared.learning import PatchSettings, adam_factors

SETTINGS = PatchSettings(size=8, window=10, steps=15, negatives=20, decay=0.2)


def one_device(events, moment, start):
    """A round of learning by the exported step's own code, for one moment of one device."""
    states, positives, weights = (part[0] for part in own_clicks(events, np.array([moment]), 10))
    clicked = set(events.items[events.starts[moment] : moment].tolist())
    negatives = draw_negatives(50, 20, 0)
    # Negatives that the user clicked are left out: their scores are so low that they count 0.
    mask = torch.tensor([-1e9 if n in clicked else 0.0 for n in negatives.tolist()])
    correction = math.log(50 / (mask == 0).sum())
    vectors = events.table[torch.from_numpy(negatives)]
    batch = (
        positives,
        vectors,
        (states * positives).sum(1),
        states @ vectors.T + mask + correction,
    )
    step, patch = TrainingStep(ShiftScores()), start.clone()
    first, second = torch.zeros(8), torch.zeros(8)
    for number in range(1, SETTINGS.steps + 1):
        rate, epsilon = (torch.tensor(x) for x in adam_factors(number, SETTINGS.learning_rate))
        decay = torch.tensor(SETTINGS.decay)
        patch, first, second, _ = step(
            patch, first, second, start, rate, epsilon, decay, weights, *batch
        )
    return patch


def test_a_fleet_learns_what_each_device_would(once_events):
    moments = np.array([3, 10, 20, 40])  # of users with few clicks, and with more than a window
    start = torch.zeros(len(once_events), 8)
    start[20] = 0.3
    learned = learn_shifts(once_events, moments, SETTINGS, start=start)
    for row, moment in enumerate(moments):
        expected = one_device(once_events, moment, start[moment])
        torch.testing.assert_close(learned[row], expected, atol=1e-5, rtol=1e-4)
    assert learned.abs().max() > 0.05


def test_a_device_without_clicks_keeps_its_start(once_events):
    first = once_events.offsets[2:3]  # a user's first click: nothing came before
    start = torch.full((len(once_events), 8), 0.25)
    learned = learn_shifts(once_events, first, SETTINGS, start=start)
    torch.testing.assert_close(learned, start[:1])


def test_samples_of_the_cloud_are_learned_from_by_their_weight(once_events):
    moments = np.array([20])

    def samples(asked):
        index = torch.tensor([[30, 31]] * len(asked))
        return once_events.states[index], once_events.targets[index], torch.zeros(len(asked), 2)

    plain = learn_shifts(once_events, moments, SETTINGS)
    weightless = learn_shifts(once_events, moments, SETTINGS, samples=samples)
    torch.testing.assert_close(plain, weightless, atol=1e-6, rtol=1e-5)
