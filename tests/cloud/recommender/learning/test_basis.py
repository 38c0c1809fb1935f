"""The basis of a metapatch, and devices by the thousand that learn with it."""

import math

import numpy as np
import onnxruntime as ort
import pytest
import torch

from cloud_service.recommender.export.learning_graphs import export_training_step
from cloud_service.recommender.learning.basis import (
    BasisSettings,
    fit_basis,
    refit_basis,
    user_profiles,
)
from cloud_service.recommender.learning.events import events_of
from cloud_service.recommender.learning.fleet import draw_negatives, own_events
from cloud_service.recommender.learning.metapatches import (
    learn_metapatches,
    patch_shifts,
    patched_states,
    windows_before,
)
from cloud_service.recommender.learning.patch import MetapatchBasis, PatchedSCN
from cloud_service.recommender.learning.ranking import cross_entropy
from cloud_service.recommender.models.scn import SCN
from shared.learning import JUNCTIONS, PatchSettings, adam_factors

SIZE, MOMENTS = 6, np.array([3, 10, 20, 40, 50])  # fewer clicks than a window, and more


def settings_at(junctions):
    return PatchSettings(
        form="metapatch",
        size=SIZE,
        junctions=junctions,
        window=10,
        steps=15,
        negatives=20,
        decay=0.2,
    )


def basis_at(junctions):
    torch.manual_seed(4)
    return MetapatchBasis(8, SIZE, junctions)


def one_device(session, scn, events, moment, settings):
    """A round of learning by the exported step in ONNX Runtime."""
    index, is_click = (rows[0] for rows in own_events(events, np.array([moment]), 10))
    negatives = draw_negatives(50, 20, 0)
    clicked = set(events.items[events.starts[moment] : moment].tolist())
    mask = np.array([-1e9 if n in clicked else 0.0 for n in negatives.tolist()])
    offsets = mask + math.log(50 / (mask == 0).sum())
    with torch.no_grad():
        hidden, is_last = windows_before(scn, events, index)
    feed = {
        "weights": is_click,
        "positives": events.table[events.targets[index]].numpy(),
        "negatives": events.table[torch.from_numpy(negatives)].numpy(),
        "states": events.states[index].numpy(),
        "hidden": hidden.numpy(),
        "is_last": is_last.numpy(),
        "positive_offsets": np.zeros(10),
        "negative_offsets": np.tile(offsets, (10, 1)),
        "start": np.zeros(SIZE),
        "decay": np.asarray(settings.decay),
    }
    names = {node.name for node in session.get_inputs()}
    state = {name: np.zeros(SIZE) for name in ("patch", "first", "second")}
    for step in range(1, settings.steps + 1):
        factors = dict(
            zip(("rate", "epsilon"), adam_factors(step, settings.learning_rate), strict=True)
        )
        inputs = {
            name: np.asarray(array, np.float32)
            for name, array in (feed | state | factors).items()
            if name in names
        }
        outputs = session.run(None, inputs)
        state = dict(zip(("patch", "first", "second"), outputs[:3], strict=True))
    return state["patch"]


@pytest.mark.parametrize("junctions", [("state",), ("output",), JUNCTIONS])
def test_a_fleet_learns_what_the_exported_step_learns(small_scn, once_events, junctions):
    basis, settings = basis_at(junctions), settings_at(junctions)
    learned = learn_metapatches(small_scn, basis, once_events, MOMENTS, settings)
    session = ort.InferenceSession(export_training_step(small_scn, settings, basis))
    for row, moment in enumerate(MOMENTS):
        expected = one_device(session, small_scn, once_events, moment, settings)
        np.testing.assert_allclose(learned[row], expected, atol=1e-5)
    assert learned.abs().max() > 0.05


def test_so_it_does_with_a_readout(small_scn, once_events):
    torch.manual_seed(3)
    model = small_scn.settings.model_copy(update={"readout": "mlp"})
    scn = SCN(50, model, init_std=0.5).eval()
    events = events_of(scn, once_events.items, once_events.offsets, seen_left_out=True)
    basis, settings = basis_at(("output",)), settings_at(("output",))
    learned = learn_metapatches(scn, basis, events, MOMENTS, settings)
    session = ort.InferenceSession(export_training_step(scn, settings, basis))
    expected = one_device(session, scn, events, MOMENTS[1], settings)
    np.testing.assert_allclose(learned[1], expected, atol=1e-5)


def test_a_device_without_clicks_learns_nothing(small_scn, once_events):
    first = once_events.offsets[2:3]
    learned = learn_metapatches(
        small_scn, basis_at(JUNCTIONS), once_events, first, settings_at(JUNCTIONS)
    )
    assert torch.equal(learned, torch.zeros(1, SIZE))


def test_settings_and_basis_must_fit(small_scn, once_events):
    with pytest.raises(ValueError, match="needs a basis of its size"):
        learn_metapatches(
            small_scn, basis_at(("state",)), once_events, MOMENTS, settings_at(JUNCTIONS)
        )


@pytest.mark.parametrize("junctions", [("state",), ("output",), ("output", "state"), JUNCTIONS])
@torch.no_grad()
def test_patched_states_are_those_of_the_patched_scn(small_scn, once_events, junctions):
    basis = basis_at(junctions)
    patches = torch.randn(len(MOMENTS), SIZE)
    hidden, is_last = windows_before(small_scn, once_events, MOMENTS)
    expected = PatchedSCN(small_scn)(hidden, is_last, basis.maps(patches))
    computed = patched_states(small_scn, basis, once_events, MOMENTS, patches)
    torch.testing.assert_close(computed, expected)
    zero = torch.zeros(len(MOMENTS), SIZE)
    shift = patch_shifts(small_scn, basis, once_events, MOMENTS, zero)
    torch.testing.assert_close(shift, torch.zeros_like(shift))


@pytest.mark.parametrize("junctions", [("state",), JUNCTIONS])
def test_a_basis_and_its_users_explain_their_clicks(small_scn, once_events, junctions):
    before = {name: tensor.clone() for name, tensor in small_scn.state_dict().items()}
    chosen = np.arange(len(once_events))
    settings = BasisSettings(SIZE, junctions, epochs=20, batch=16, rate=0.01)
    basis, patches = fit_basis(small_scn, once_events, chosen, settings)
    chosen = chosen[once_events.places > 0]
    with torch.no_grad():
        states = patched_states(
            small_scn, basis, once_events, chosen, patches[once_events.users[chosen]]
        )
        fitted = cross_entropy(once_events, chosen, states)
        unpatched = cross_entropy(once_events, chosen, once_events.states[chosen])
    assert fitted < unpatched - 0.05
    assert torch.equal(patches[0], torch.zeros(SIZE))  # one click: nothing to learn from
    assert all(torch.equal(before[name], now) for name, now in small_scn.state_dict().items())


def test_a_basis_is_trained_again_through_the_encoder(small_scn, once_events):
    basis, patches = basis_at(("state",)), torch.randn(5, SIZE)
    before = basis.down.detach().clone()
    chosen = np.arange(len(once_events))
    settings = BasisSettings(SIZE, epochs=2, batch=16)
    again = refit_basis(small_scn, basis, once_events, chosen, patches, settings)
    assert torch.equal(basis.down, before)
    assert (again.down - before).abs().max() > 1e-3
    profiles = user_profiles(once_events, chosen)
    clicked = once_events.table[once_events.targets[1:4]].mean(0)
    torch.testing.assert_close(profiles[1], clicked)
