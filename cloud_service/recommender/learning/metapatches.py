"""Metapatches of many users: their patched user states, and their training by thousands.

A round of learning is that of the device (`TrainingStep`). Rows of all devices go through the SCN
together; the part of it that no map changes is computed once for all steps.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Final, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from cloud_service.recommender.data.clicks import recent
from cloud_service.recommender.learning.events import Events, Int64
from cloud_service.recommender.learning.fleet import draw_negatives, negative_offsets, own_events
from cloud_service.recommender.learning.patch import MetapatchBasis, PatchedSCN, ResidualMap
from cloud_service.recommender.learning.step import StepState, adam, sampled_loss
from cloud_service.recommender.models.scn import SCN
from shared.learning import Junction, PatchSettings, adam_factors

_TOGETHER: Final = 32
"""Devices that learn in one computation."""


def windows_before(
    scn: SCN, events: Events, chosen: Int64
) -> tuple[Float[Tensor, "n k dim"], Float[Tensor, "n k"]]:
    """H of the clicks before some events, and 1 at the last click of each (0 where none is)."""
    clicks = recent(events.items, events.starts[chosen], chosen, scn.length)
    segment = scn.settings.segment
    items = torch.from_numpy(clicks.astype(np.int64))
    items = functional.pad(items, (0, segment - items.shape[1]))
    count = (items > 0).sum(1)
    is_last = functional.one_hot((count - 1).clamp_min(0), segment).float()
    return scn.hidden(items), is_last * (count > 0).unsqueeze(1)


def patched_states(
    scn: SCN,
    basis: MetapatchBasis,
    events: Events,
    chosen: Int64,
    patches: Float[Tensor, "chosen size"],
) -> Float[Tensor, "chosen dim"]:
    """The user states before some events under a patch for each."""
    read = read_before(scn, basis.junctions, events, chosen)
    return states_under(scn, read, basis.maps(patches))


class Read(NamedTuple):
    """What no map of some junctions changes: it is computed once for all steps of a training.

    Attributes:
        rows: of each event, its user state (1, D) or the block's output at the last click (1, D),
            where that is all that the maps read; otherwise H (k, D).
        is_last: 1 at the last click, with H.
    """

    rows: Float[Tensor, "n k dim"]
    is_last: Float[Tensor, "n k"] | None


def read_before(scn: SCN, junctions: tuple[Junction, ...], events: Events, chosen: Int64) -> Read:
    """What the maps of some junctions read before some events."""
    if junctions == ("state",):  # the states of the events are those of this SCN
        return Read(events.states[chosen].unsqueeze(1), None)
    hidden, is_last = windows_before(scn, events, chosen)
    if "hidden" in junctions or scn.readout is not None:
        return Read(hidden, is_last)
    before = scn.block.initial_state(len(hidden))
    output = scn.block.rows(scn.block.terms(hidden, before), before)
    return Read((output * is_last.unsqueeze(-1)).sum(-2, keepdim=True), None)


def states_under(
    scn: SCN, read: Read, maps: Mapping[Junction, "ResidualMap | _OfDevices"]
) -> Float[Tensor, "n dim"]:
    """The user states under residual maps at their junctions."""
    state: Tensor
    if read.is_last is not None:
        # What `PatchedSCN` asks of a map is `apply`.
        state = PatchedSCN(scn)(read.rows, read.is_last, cast(dict[Junction, ResidualMap], maps))
        return state
    state = read.rows
    if "output" in maps:
        state = scn.user_state(maps["output"].apply(state))
    if "state" in maps:
        state = maps["state"].apply(state)
    return state.squeeze(1)


@torch.no_grad()
def patch_shifts(
    scn: SCN,
    basis: MetapatchBasis,
    events: Events,
    chosen: Int64,
    patches: Float[Tensor, "chosen size"],
) -> Float[Tensor, "chosen dim"]:
    """By how much a patch moves the user state before some events."""
    shifts = [
        patched_states(scn, basis, events, chosen[at : at + 512], patches[at : at + 512])
        - events.states[chosen[at : at + 512]]
        for at in range(0, len(chosen), 512)
    ]
    return torch.cat(shifts) if shifts else torch.zeros(0, basis.dim)


@torch.no_grad()
def learn_metapatches(
    scn: SCN,
    basis: MetapatchBasis,
    events: Events,
    moments: Int64,
    settings: PatchSettings,
    *,
    seed: int = 0,
) -> Float[Tensor, "moments size"]:
    """The metapatch that each device has learned, from zero, just before some events.

    A device without a click that can be learned from keeps zero. The states of `events` are those
    of `scn`. Raises ValueError where settings and basis do not fit.
    """
    scn = deepcopy(scn).requires_grad_(requires_grad=False)
    if (settings.size, settings.junctions) != (basis.size, basis.junctions):
        raise ValueError("a metapatch needs a basis of its size and junctions")
    negatives = draw_negatives(len(events.catalogue), settings.negatives, seed)
    learned = [
        _learn(scn, basis, events, moments[at : at + _TOGETHER], settings, negatives)
        for at in range(0, len(moments), _TOGETHER)
    ]
    return torch.cat(learned) if learned else torch.zeros(0, basis.size)


def _learn(
    scn: SCN,
    basis: MetapatchBasis,
    events: Events,
    moments: Int64,
    settings: PatchSettings,
    negatives: Int64,
) -> Float[Tensor, "moments size"]:
    index, is_click = own_events(events, moments, settings.window)
    weights = torch.from_numpy(is_click.astype(np.float32))
    has_clicks = weights.sum(1, keepdim=True) > 0
    offsets = negative_offsets(events, moments, negatives).unsqueeze(1)
    offsets = offsets.expand(-1, settings.window, -1)
    positives = events.table[events.targets[index]]
    vectors = events.table[torch.from_numpy(negatives)]
    frozen = deepcopy(basis).requires_grad_(requires_grad=False)
    read = read_before(scn, basis.junctions, events, index.reshape(-1))

    def losses(patch: Tensor) -> Tensor:
        maps = {name: _OfDevices(*residual) for name, residual in frozen.maps(patch).items()}
        states = states_under(scn, read, maps)
        states = states.view(*index.shape, -1)
        positive = (states * positives).sum(-1)
        loss = sampled_loss(positive, states @ vectors.T + offsets, weights)
        return loss + 0.5 * settings.decay * patch.square().sum(1)

    zero = torch.zeros(len(moments), settings.size)
    weights = torch.where(has_clicks, weights, 1.0)
    state = StepState(zero, zero, zero)
    for step in range(1, settings.steps + 1):
        patch = state.patch.requires_grad_()
        with torch.enable_grad():
            # A device's loss reads no other device's patch: the sum has each one's gradient.
            gradient = torch.autograd.grad(losses(patch).sum(), patch)[0]
        state = adam(state, gradient, *adam_factors(step, settings.learning_rate))
    return state.patch * has_clicks


class _OfDevices(NamedTuple):
    """Residual maps of devices, for rows that are those of the devices one after another."""

    matrix: Float[Tensor, "devices dim dim"]
    bias: Float[Tensor, "devices dim"]

    def apply(self, x: Float[Tensor, "n k dim"]) -> Float[Tensor, "n k dim"]:
        rows = x.reshape(len(self.matrix), -1, x.shape[-1])
        return ResidualMap(self.matrix, self.bias).apply(rows).view_as(x)
