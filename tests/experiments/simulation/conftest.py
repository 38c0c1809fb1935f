"""A small report with made-up numbers: test data, no measurement of anything."""

from datetime import UTC, datetime

import numpy as np
import pytest

from experiments.simulation.measure import Measurement, Rerank, RunMeasurements, summarise
from experiments.simulation.measured import Summary
from experiments.simulation.network import PROFILES, NetworkProfile
from experiments.simulation.quality import Compared, quality
from experiments.simulation.report import (
    Machine,
    ModelFacts,
    Pauses,
    ProfileResult,
    Report,
    RunSettings,
)
from shared.outcomes import Outcome
from shared.wire import Form

BUDGET_S = 4.21e-3
PAYLOADS = (2_560, 4_160)
HEADERS = (310, 260)
REQUESTS_OF_A_USER = 6


def made_up_ranks(gain: int, requests: int) -> list[Compared]:
    """The correction moves 1 next click in 7 by `gain` places; half of the rest is not listed."""
    rng = np.random.default_rng(5)
    rows = []
    for index in range(requests):
        local = int(rng.geometric(0.06)) - 1
        corrected = max(local - gain, 0) if index % 7 == 0 else local
        user, step = divmod(index, REQUESTS_OF_A_USER)
        rows.append(Compared(user, step, *((corrected, local) if local < 50 else (None, None))))
    return rows


def made_up_profile(
    network: NetworkProfile, gain: int = 1, requests: int = 600, form: Form = "full"
) -> ProfileResult:
    """`requests` made-up requests, reranked at once and after a pause."""
    rng = np.random.default_rng(11)
    measurements = []
    for index, ranks in enumerate(made_up_ranks(gain, requests)):
        up = network.serialisation_s(PAYLOADS[0] + HEADERS[0], up=True) + network.latency_s(rng)
        up += 2e-5 + network.recovery_s(2, rng)
        down = network.serialisation_s(PAYLOADS[1] + HEADERS[1], up=False)
        compute, queue = rng.lognormal(-8.4, 0.3), rng.exponential(5e-5)
        cloud = compute + queue + 3e-4 + network.latency_s(rng) + network.recovery_s(4, rng)
        total = up + cloud + down
        outcome = Outcome.APPLIED if total <= BUDGET_S else Outcome.LATE
        rare = list(Outcome)[1:]
        answered = index % 40 != 0
        if not answered:
            outcome = rare[(index // 40) % len(rare)]
        at_once = ranks.corrected if outcome is Outcome.APPLIED else ranks.local
        paused = Outcome.APPLIED if answered else outcome
        measurements.append(
            Measurement(
                user=ranks.user,
                local=ranks.local,
                at_once=Rerank(outcome, min(total, BUDGET_S) + 1e-4, at_once),
                after_pause=Rerank(paused, 1e-4, ranks.corrected if answered else ranks.local),
                pause_s=float(rng.exponential(20)),
                hidden_s=rng.lognormal(-9.2, 0.2),
                upload_s=up,
                cloud_s=cloud if answered else None,
                download_s=down if answered else None,
                total_s=total if answered else None,
                queue_s=queue if answered else None,
                compute_s=compute if answered else None,
                local_s=rng.lognormal(-9.0, 0.2),
                start_delay_s=rng.exponential(1e-4),
                payload_up=PAYLOADS[0],
                payload_down=PAYLOADS[1] if answered else 0,
                sent_up=PAYLOADS[0] + HEADERS[0],
                sent_down=PAYLOADS[1] + HEADERS[1] if answered else 0,
            )
        )
    return summarise(network, [RunMeasurements(form, 200, 199, 0.4, measurements)], BUDGET_S)


def made_up_report(
    names: tuple[str, ...] = tuple(PROFILES), *, synthetic: bool = True, gain: int = 1
) -> Report:
    """A whole made-up report over the profiles `names`."""
    measured = quality("full", made_up_ranks(gain, 600))
    assert measured is not None
    return Report(
        created=datetime(2030, 1, 2, 3, 4, tzinfo=UTC),
        machine=Machine(
            cpu="Test CPU",
            cores=2,
            memory_bytes=8 << 30,
            os="Linux",
            python="3.11.2",
            onnxruntime="1.20.0",
            numpy="2.1.0",
            project="0.0.0",
        ),
        model=ModelFacts(
            version="0123456789abcdef",
            name="production",
            data="made-up clicks",
            synthetic=synthetic,
            metrics={"ndcg10_corrected": 0.213, "ndcg10_local": 0.211},
        ),
        settings=RunSettings(
            devices=50,
            users=600,
            arrivals_per_s=200,
            duration_s=3,
            budget_ms=4.21,
            candidates=50,
            think="both",
            seed=11,
        ),
        pauses=Pauses(
            source="made-up pauses",
            drawn=Summary(count=600, mean=2e4, p50=14e3, p90=46e3, p99=9e4, p999=14e4, max=15e4),
        ),
        quality=(measured,),
        profiles=tuple(made_up_profile(PROFILES[name], gain) for name in names),
    )


@pytest.fixture(scope="session")
def report() -> Report:
    return made_up_report()


@pytest.fixture(scope="session")
def worse_report() -> Report:
    """One in which the correction makes the ranking worse."""
    return made_up_report(("4g-5",), synthetic=False, gain=-3)
