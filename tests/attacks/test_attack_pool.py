"""Attacks on the pool of samples: on users behind samples, and on the cloud that hands them out."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from cloud_service.recommender.data.clicks import ClickLog, recent, split
from cloud_service.recommender.models.scn import SCN
from cloud_service.recommender.pool.build import pool_of, samples_of, training_clicks
from cloud_service.recommender.pool.inverted_lists import unit_rows
from cloud_service.recommender.pool.pool_file import pool_bytes
from cloud_service.recommender.recipe import PoolRecipe
from cloud_service.storage.store import Store
from device_client.bundle import Bundle
from device_client.learning.samples import SamplesUnavailable, fetch_samples
from shared.model import PAPER
from shared.samples import SAMPLE_TYPES, STATES_TYPE, Query, Samples, SampleWire, samples_path
from tests.attacks.attacking import attacked, statuses
from tests.instruments.pool_attacks import invert, membership_auc
from tests.instruments.pools import small_pool

pytestmark = pytest.mark.slow(20)

TOKEN = "the-token-of-devices"
K = 10
SIZE = 20_000
STATE = np.random.default_rng(9).normal(size=PAPER.dim).astype("<f2").tobytes()


def tasteful_log(users=1500, items=200, clicks=30, tastes=4, seed=5):
    """Users of a few tastes who click what their taste makes likely, and never twice."""
    random = np.random.default_rng(seed)
    weights = random.dirichlet(np.full(items, 0.3), tastes) + 1e-4
    taste = random.integers(0, tastes, users)
    noise = random.gumbel(size=(users, items)) + np.log(weights[taste])
    chosen = np.argsort(-noise, axis=1)[:, :clicks]
    for row in chosen:
        random.shuffle(row)
    return ClickLog(
        name="tasteful",
        synthetic=True,
        preprocessing="none",
        item_ids=tuple(f"i{item:03}" for item in range(items)),
        items=(chosen + 1).ravel().astype(np.int32),
        timestamps=np.tile(np.arange(clicks, dtype=np.int64), users),
        offsets=np.arange(users + 1, dtype=np.int64) * clicks,
        user_ids=tuple(f"u{user:05}" for user in range(users)),
    )


class World:
    """Users of whom every second is in a pool; the attacker knows the clicks of the others."""

    def __init__(self):
        self.split = split(tasteful_log(), seed=1)
        torch.manual_seed(7)
        self.scn = SCN(self.split.log.item_count, PAPER, init_std=0.5).eval()
        random = np.random.default_rng(0)
        chosen = training_clicks(self.split, self.split.train_users, 10**6, random)
        positions, starts, users = chosen
        self.samples = samples_of(self.scn, self.split, *chosen)
        self.windows = recent(self.split.log.items, starts, positions, 10).astype(np.int64)
        self.members = np.arange(self.split.log.user_count) % 2 == 0
        self.inside = np.flatnonzero(self.members[users])
        self.outside = np.flatnonzero(~self.members[users])
        with torch.no_grad():
            self.item_units = unit_rows(self.scn.input_norm(self.scn.item_embedding).numpy())

    def sent(self, recipe, form):
        """The samples of a pool of the members, as a device gets them."""
        own = type(self.samples)(*(array[self.inside] for array in self.samples))
        pool = pool_of(own, recipe, np.random.default_rng(0))
        wire = SampleWire(PAPER.dim, self.split.log.item_count)
        everything = np.arange(len(pool))
        samples = Samples(pool.sample_states(everything), pool.rows.astype(np.int64))
        return wire.decode_samples(wire.encode_samples(samples, form), form, len(pool))

    def recovered(self, sent):
        """How often a sample gives away clicks of the user whose state is nearest to it."""
        owners = np.empty(len(sent.rows), np.int64)
        units = unit_rows(self.samples.states)
        for row in np.unique(sent.rows):
            owned = self.inside[self.samples.items[self.inside] == row]
            at = np.flatnonzero(sent.rows == row)
            owners[at] = owned[(unit_rows(sent.states[at]) @ units[owned].T).argmax(axis=1)]
        return self.inverted(self.samples.states, sent.states, owners)

    def inverted(self, vectors, seen, owners):
        """What the attacker makes of `seen`, having learned on `vectors` of users it knows."""
        known = self.windows[self.outside]
        return invert(vectors[self.outside], known, seen, self.windows[owners], self.item_units)

    def member_known(self, sent):
        """How well an attacker who knows a history tells whether it is in the pool (AUC)."""
        samples = self.samples
        return membership_auc(
            sent.states, sent.rows, samples.states, samples.items, samples.users, self.members
        )


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.mark.parametrize("form", ["half", "int8"])
@pytest.mark.parametrize("k", [1, K])
def test_a_users_own_state_gives_its_clicks_and_its_membership_away(world, form, k):
    """Neither quantisation nor k other users nearby protects whoever's state it is."""
    sent = world.sent(PoolRecipe(pool_users=k, pool_states="own"), form)
    recovery = world.recovered(sent)
    assert recovery.last_at_10 > 0.9
    assert world.member_known(sent) > 0.95


def test_the_mean_of_k_users_hides_most_of_both(world):
    own = world.recovered(world.sent(PoolRecipe(pool_users=K, pool_states="own"), "int8"))
    sent = world.sent(PoolRecipe(pool_users=K), "int8")
    recovery = world.recovered(sent)
    assert len(sent.rows) > 100
    assert recovery.last_at_1 < 0.4 * own.last_at_1
    assert recovery.last_at_10 < 0.6 * own.last_at_10
    assert world.member_known(sent) < 0.7


@pytest.fixture(scope="module")
def cloud(small_store, tmp_path_factory):
    """A real cloud that hands out samples, and logs all that it can."""
    folder = tmp_path_factory.mktemp("pool")
    shutil.copytree(small_store.folder, folder / "store")
    store = Store(folder / "store")
    version = store.production()
    manifest = store.manifest(version)
    store.write_pool(version, pool_bytes(small_pool(SIZE, manifest.model.dim, manifest.items)))
    log = folder / "log"
    settings = {"CLOUD_DEVICE_TOKEN": TOKEN, "CLOUD_LOG_LEVEL": "debug"}
    with attacked(store.folder, version, log, **settings) as cloud:
        cloud.store = store
        yield cloud
    text = log.read_bytes()
    assert TOKEN.encode() not in text
    assert not [form for form in (STATE.hex(), repr(STATE)[2:-1]) if form.encode()[:24] in text]


@pytest.fixture(scope="module")
def bundle(cloud):
    return Bundle.open(cloud.store.version_folder(cloud.version))


def query(version, body=None, *lines, kind=STATES_TYPE, length=None, token=TOKEN):
    """The bytes of a query on a connection that ends with it."""
    body = STATE if body is None else body
    head = [
        f"POST {samples_path(version)} HTTP/1.1", "Host: x", "Connection: close",
        f"Content-Type: {kind}", f"Authorization: Bearer {token}",
        *([f"Content-Length: {len(body) if length is None else length}"] if length != "" else []),
        *lines,
    ]  # fmt: skip
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def test_a_real_device_gets_samples_from_a_real_cloud(cloud, bundle):
    states = np.frombuffer(STATE, "<f2").astype(np.float32)[None]
    for form in SAMPLE_TYPES:
        for asked in (Query(states=states), Query(rows=np.array([1, 2, 3])), Query()):
            samples = fetch_samples(cloud.url, bundle, TOKEN, asked, form=form)
            assert samples.states.shape == (200, bundle.manifest.model.dim)
            assert len(fetch_samples(cloud.url, bundle, TOKEN, asked, form=form, most=3).rows) == 3
    with pytest.raises(SamplesUnavailable) as caught:
        fetch_samples(cloud.url, bundle, "another-token-of-devices")
    assert caught.value.problem == "unauthorized"


HOSTILE = {
    "a length of 1 GB": (query, {"length": 1 << 30}, 413),
    "a length of 10^40": (query, {"length": 10**40}, 400),
    "a length below zero": (query, {"length": -1}, 400),
    "no length": (query, {"length": ""}, 411),
    "a length that is not that of the body": (query, {"length": 64}, 400),
    "a body of 1 MB": (query, {"body": bytes(1 << 20)}, 413),
    "no token": (query, {"token": ""}, 401),
    "a token of 10 kB": (query, {"token": "x" * 10_000}, 401),
    "a token that is not ASCII": (query, {"token": "\xff"}, 401),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_query_is_refused_and_costs_no_memory(cloud, case):
    make, arguments, status = HOSTILE[case]
    cloud.told(query(cloud.version))  # the pool is open
    before = cloud.memory()
    for _ in range(20):
        assert statuses(cloud.told(make(cloud.version, **arguments)))[0] == status
    assert cloud.memory() - before < 4 << 20
    assert statuses(cloud.told(query(cloud.version))) == [200]


def test_chunks_of_no_length_are_not_read(cloud):
    chunked = query(cloud.version, b"", "Transfer-Encoding: chunked", length="")
    assert statuses(cloud.told(chunked + b"400\r\n" + bytes(1024) + b"\r\n0\r\n\r\n")) == [411]


def test_two_tokens_are_none(cloud):
    twice = query(cloud.version, None, f"Authorization: Bearer {TOKEN}", token="x")
    assert statuses(cloud.told(twice)) == [401]


@pytest.mark.parametrize(
    "path",
    ["pools/{v}", "v1/models/{v}/files/pools", "v1/models/{v}/files/..%2f..%2fpools%2f{v}",
     "v1/models/{v}/pool", "v1/models/{v}/files/../../../pools/{v}"],
)  # fmt: skip
def test_the_file_of_a_pool_cannot_be_downloaded(cloud, path):
    assert cloud.get("/" + path.format(v=cloud.version)) == 404


@pytest.mark.parametrize("version", ["..", "../..", "%2e%2e", "0" * 16, "x" * 9000, "production"])
def test_no_path_is_built_from_what_names_no_version(cloud, version):
    assert statuses(cloud.told(query(version)))[0] == 404


def test_corrections_are_answered_while_searches_flood_the_cloud(cloud):
    """What is too much of searches is refused; no correction is."""
    end = time.monotonic() + 3

    def flood():
        seen = set()
        while time.monotonic() < end:
            seen |= set(statuses(cloud.told(query(cloud.version, STATE * 8))))
        return seen

    with ThreadPoolExecutor(40) as threads:
        floods = [threads.submit(flood) for _ in range(40)]
        corrections = []
        while time.monotonic() < end:
            corrections.append(cloud.correct())
    assert set(corrections) == {200}
    assert len(corrections) > 20
    assert set().union(*(flood.result() for flood in floods)) <= {200, 503}


def test_a_device_that_leaves_early_keeps_nothing_busy(cloud):
    before = cloud.open_files()
    for _ in range(200):
        with cloud.connect() as line:
            line.sendall(query(cloud.version)[:-64])
    for _ in range(50):
        with cloud.connect() as line:
            line.sendall(query(cloud.version))
    end = time.monotonic() + 20
    while (answered := statuses(cloud.told(query(cloud.version)))) != [200]:
        assert answered == [503]  # the searches of those who left go on to their ends
        assert time.monotonic() < end
    assert cloud.open_files() <= before + 5
