"""What a device learns and ranks is what the torch library learns and ranks."""

from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from cloud_service.publishing.publish import publish
from cloud_service.recommender.export.learning_graphs import learning_files
from cloud_service.recommender.learning.amortised import (
    AmortisedPatch,
    amortised_shifts,
    history_sums,
)
from cloud_service.recommender.learning.events import events_of
from cloud_service.recommender.learning.fit import Learning
from cloud_service.recommender.learning.fleet import draw_negatives, learn_shifts
from cloud_service.recommender.learning.memory import ItemMemory
from cloud_service.recommender.learning.patch import MetapatchBasis
from cloud_service.recommender.learning.ranking import scores_of
from cloud_service.recommender.models.baselines.sasrec import SASRec
from cloud_service.recommender.models.cocorrrec import ProjectedCoCorrRec
from cloud_service.storage.port import StoreFile, entries_of
from cloud_service.storage.store import Store
from device_client.bundle import Bundle
from device_client.learning.learner import STATE, Learner
from device_client.learning.learning_round import LearningRound, held_out
from device_client.learning.own_clicks import OwnClicks
from device_client.learning.patch import Patch
from device_client.learning.training_graph import TrainingGraph
from device_client.scn import Graphs
from device_client.session import Session
from shared.bundle import read_manifest
from shared.errors import UnsupportedLearning
from shared.learning import LearningSettings, MemorySettings, PatchSettings
from shared.manifest import FORMAT, LEARNING_FORMAT, MANIFEST_NAME
from shared.model import ModelSettings

pytestmark = pytest.mark.slow(30)

MODEL = ModelSettings(dim=16, heads=2, segment=4, length=4)
CREATED = datetime(2026, 1, 2, tzinfo=UTC)
MEMORY = MemorySettings(base=0.4, count=0.3, age=0.2)
SETTINGS = {
    "from zero": PatchSettings(size=16, window=12, negatives=40),
    "amortised": PatchSettings(size=16, window=12, negatives=40, start="amortised"),
    "more negatives than items": PatchSettings(size=16, window=12, negatives=120),
}
CLICKS = {"a full window": 30, "padding": 11}


@pytest.fixture(scope="module")
def model(small_split):
    torch.manual_seed(5)
    items = small_split.log.item_count
    teacher = SASRec(items, length=4, dim=16, heads=2, layers=1, dropout=0.0)
    return ProjectedCoCorrRec(items, MODEL, init_std=0.5, teachers=[teacher]).eval()


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(6)
    network = AmortisedPatch(16, width=8).eval()
    torch.nn.init.normal_(network.second.weight, std=0.05)
    return network


@pytest.fixture(scope="module")
def store(model, network, small_split, tmp_path_factory):
    """The same model published without learning, and with it."""
    store = Store(tmp_path_factory.mktemp("store"))
    publish(store, model, small_split, {}, created=CREATED)
    settings = LearningSettings(patch=SETTINGS["amortised"], memory=MEMORY)
    learning = Learning(settings, network, (0.0, 0.0))
    publish(store, model, small_split, {}, created=CREATED, learning=learning)
    return store


@pytest.fixture(scope="module")
def opened(store, model, network, tmp_path_factory):
    """Opens the bundle of that model with other settings of learning."""
    published = store.version_folder(store.versions()[-1])

    def bundle(settings, basis=None):
        amortised = network if settings.patch and settings.patch.start == "amortised" else None
        files = learning_files(model.scn, settings, amortised, basis)
        folder = tmp_path_factory.mktemp("bundle")
        for path in published.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        for name, content in files.items():
            (folder / name).write_bytes(content)
        manifest = read_manifest(published)
        entries = entries_of(
            {name: StoreFile(content, "device") for name, content in files.items()}
        )
        changes = {
            "format": LEARNING_FORMAT, "learning": settings, "files": manifest.files + entries,
        }  # fmt: skip
        manifest = manifest.model_copy(update=changes)
        (folder / MANIFEST_NAME).write_text(manifest.model_dump_json())
        return Bundle.open(folder)

    return bundle


@pytest.fixture(scope="module")
def events(model, small_split):
    """One user's clicks."""
    items = np.random.default_rng(2).integers(1, small_split.log.item_count + 1, 40)
    offsets = np.array([0, 40])
    return events_of(model.scn, items.astype(np.int32), offsets, seen_left_out=False)


class OneState:
    """A store with a patch and no clicks."""

    def __init__(self, patch):
        self.states = {STATE: patch.to_bytes()}

    def clicks(self):
        return []

    def load_state(self, name):
        return self.states.get(name)

    def save_state(self, name, content):
        self.states[name] = content
        return True

    def remove_state(self, name):
        return self.states.pop(name, None) is not None


@pytest.mark.parametrize("clicks", CLICKS)
@pytest.mark.parametrize("case", SETTINGS)
def test_a_round_on_a_device_is_that_of_the_fleet(opened, events, network, case, clicks):
    settings, count = SETTINGS[case], CLICKS[clicks]
    bundle = opened(LearningSettings(patch=settings))
    own = OwnClicks(Graphs(bundle), settings.window + held_out(settings.window))
    for row in events.items[:count]:
        own.add(int(row), None)
    one = LearningRound(bundle, settings, draw=lambda items, m: draw_negatives(items, m, seed=0))
    for _ in one.run(own, None):
        pass
    moment = np.array([count - held_out(min(count, settings.window))])
    start = None
    if settings.start == "amortised":
        with torch.no_grad():
            start = amortised_shifts(network, events, history_sums(events))
        assert start[moment].abs().max() > 0.01
    expected = learn_shifts(events, moment, settings, start=start, seed=0)[0]
    np.testing.assert_allclose(one._graph.patch, expected, rtol=0, atol=1e-5)
    assert expected.abs().max() > 0.05


def test_a_round_on_one_sample_is_that_of_the_fleet(opened, events):
    settings = SETTINGS["from zero"]
    bundle = opened(LearningSettings(patch=settings))
    graph, negatives = TrainingGraph(bundle, settings), draw_negatives(90, 40, seed=0)
    for count in (9, 2):  # a full batch first: nothing of it is left
        states = events.states[1:count].numpy()
        rows = events.items[1:count].astype(np.int64)
        graph.begin(None)
        graph.fill(states, rows, negatives, np.isin(negatives, events.items[:count]))
        for step in range(1, settings.steps + 1):
            graph.step(step)
    expected = learn_shifts(events, np.array([2]), settings, seed=0)[0]
    np.testing.assert_allclose(graph.patch, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", ["shift", "metapatch"])
def test_a_session_ranks_with_patch_and_memory_as_torch_does(opened, events, form):
    torch.manual_seed(8)
    basis = MetapatchBasis(16, 6) if form == "metapatch" else None
    patch = PatchSettings(form=form, size=6 if basis else 16, window=12, negatives=40)
    bundle = opened(LearningSettings(patch=patch, memory=MEMORY), basis)
    numbers = np.random.default_rng(1).normal(0, 0.3, patch.size).astype(np.float32)
    session = Session(bundle)
    Learner(session, OneState(Patch(form, numbers, bundle.version)))
    candidates = np.arange(1, 91)
    for at in range(1, 40):
        session.click_row(int(events.items[at - 1]))
        moment = np.array([at])
        shift = torch.from_numpy(numbers)[None]
        if basis is not None:
            state = events.states[moment]
            shift = basis.maps(shift)["state"].apply(state.unsqueeze(1)).squeeze(1) - state
        expected = scores_of(events, moment, shift, ItemMemory(events, MEMORY))[0]
        with torch.no_grad():
            scores = session.score_rows(candidates)
        np.testing.assert_allclose(scores, expected.detach(), rtol=1e-5, atol=2e-5)


def test_a_bundle_without_learning_is_published_as_before(store):
    version = store.versions()[-1]
    manifest = store.manifest(version)
    assert manifest.format == FORMAT == 5
    assert b"learning" not in store.manifest_bytes(version)
    assert "learn.onnx" not in {entry.name for entry in manifest.files}


def test_a_bundle_with_learning_has_a_format_that_older_programs_refuse(store):
    manifest = Bundle.open(store.version_folder(store.versions()[0])).manifest
    assert manifest.format == LEARNING_FORMAT == 6
    assert manifest.learning == LearningSettings(patch=SETTINGS["amortised"], memory=MEMORY)
    names = {entry.name for entry in manifest.device_files()}
    assert {"learn.onnx", "amortised.onnx"} <= names


def test_memory_alone_needs_no_graph(model):
    assert learning_files(model.scn, LearningSettings(memory=MEMORY)) == {}


def test_what_devices_cannot_learn_is_not_published(model, small_model, small_split, tmp_path):
    def publish_with(network, basis=None, **patch):
        settings = LearningSettings(patch=PatchSettings(**patch))
        learning = Learning(settings, None, (0.0, 0.0), basis)
        publish(Store(tmp_path), network, small_split, {}, created=CREATED, learning=learning)

    with pytest.raises(UnsupportedLearning, match="use gcn projected"):
        publish_with(small_model)
    basis = MetapatchBasis(16, 6, ("hidden",))
    with pytest.raises(UnsupportedLearning, match="not at hidden"):
        publish_with(model, basis, form="metapatch", size=6, junctions=("hidden",))
    with pytest.raises(UnsupportedLearning, match="comes with a basis"):
        publish_with(model, form="metapatch", size=7)
    with pytest.raises(UnsupportedLearning, match="needs its network"):
        publish_with(model, size=16, start="amortised")
    assert Store(tmp_path).versions() == []
