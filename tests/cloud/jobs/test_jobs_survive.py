"""Jobs with real worker and API processes that are killed, restarted, doubled or cancelled."""

import json
import signal
import time

import httpx
import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow(30)

JUMPING = ROOT / "tests" / "instruments" / "jumping_clock.py"


def ticks_of(log: str) -> list[str]:
    messages = [json.loads(line)["message"] for line in log.splitlines()]
    return [message for message in messages if message.startswith("tick")]


def test_after_kill_nine_the_next_worker_goes_on_where_the_dead_one_was(any_place):
    job = any_place.submit(ticks=40)
    first_worker = any_place.worker()
    any_place.wait_for_log(job, "tick 3 ")
    first_worker.kill()
    first_worker.wait()
    assert any_place.jobs.get(job).state == "running"
    second = any_place.worker()
    done = any_place.wait(job, "succeeded", "failed")
    assert done.state == "succeeded", done.error
    assert done.version == any_place.store.production()
    ticks = ticks_of(any_place.log(job))
    steps = [int(tick.split()[1]) for tick in ticks]
    # From the checkpoint: none lost, none done twice but for the one that the kill cut off, maybe.
    assert sorted(set(steps)) == list(range(40))
    assert steps == sorted(steps)
    assert len(steps) <= 41
    assert {tick.split()[-1] for tick in ticks} == {str(first_worker.pid), str(second.pid)}
    assert any_place.log(job).count("Going on after an interruption.") == 1


def test_a_worker_that_dies_between_publishing_and_promoting_leaves_both_to_the_next(any_place):
    job = any_place.submit(ticks=3, seed=3)
    first_worker = any_place.worker()
    assert first_worker.wait(30) == -signal.SIGKILL
    (version,) = any_place.store.versions()
    assert any_place.store.production() is None
    assert any_place.jobs.get(job).state == "running"
    any_place.worker()
    done = any_place.wait(job, "succeeded", "failed")
    assert (done.state, done.version) == ("succeeded", version)
    assert any_place.store.versions() == [version]  # published twice, it is one version
    assert any_place.store.production() == version


def test_a_worker_whose_wall_clock_jumps_by_hours_does_its_jobs_in_turn(any_place):
    jobs = [any_place.submit(ticks=5) for _ in range(2)]
    worker = any_place.worker(str(JUMPING))
    for job in jobs:
        ended = any_place.wait(job, "succeeded", "failed", seconds=60)
        assert ended.state == "succeeded", (
            ended.error,
            any_place.log(job),
            any_place.output_text(),
        )
        steps = [int(tick.split()[1]) for tick in ticks_of(any_place.log(job))]
        assert steps == list(range(5))
        assert ended.updated >= ended.created
    worker.kill()
    worker.wait()
    newest = any_place.submit(ticks=200)  # by the right clock, after those of the wrong one
    any_place.worker(str(JUMPING))
    any_place.wait_for_log(newest, "tick 1 ")
    assert any_place.jobs.cancel(newest).state == "cancelled"
    any_place.wait_for_log(newest, "Stopped: the job was cancelled.")


def test_a_running_job_stops_within_two_seconds_of_its_cancellation(any_place):
    job = any_place.submit(ticks=600)
    any_place.worker()
    any_place.wait_for_log(job, "tick 2 ")
    begun_s = time.monotonic()
    assert any_place.jobs.cancel(job).state == "cancelled"
    any_place.wait_for_log(job, "Stopped: the job was cancelled.")
    assert time.monotonic() - begun_s < 2.0
    after = any_place.log(job)
    following = any_place.submit(ticks=1)
    assert any_place.wait(following, "succeeded", "failed").state == "succeeded"
    assert any_place.log(job) == after
    assert any_place.jobs.get(job).state == "cancelled"


def test_two_workers_never_share_a_job_and_the_second_takes_over(any_place):
    first_worker = any_place.worker()
    any_place.until_printed("takes jobs")
    second = any_place.worker()
    any_place.until_printed("standing by")
    jobs = [any_place.submit(ticks=15), any_place.submit(ticks=15)]
    any_place.wait_for_log(jobs[0], "tick 5 ")
    assert str(second.pid) not in any_place.log(jobs[0])
    assert any_place.jobs.get(jobs[1]).state == "queued"
    first_worker.kill()
    first_worker.wait()
    for job in jobs:
        ended = any_place.wait(job, "succeeded", "failed")
        assert ended.state == "succeeded", (
            ended.error,
            any_place.log(job),
            any_place.output_text(),
        )
        steps = [int(tick.split()[1]) for tick in ticks_of(any_place.log(job))]
        assert steps == list(range(15))
    assert str(second.pid) in any_place.log(jobs[1])


def test_jobs_outlive_the_api_and_go_on_without_it(any_place):
    api, address = any_place.serve()
    admin = {"authorization": "Bearer a-long-admin-token"}
    with httpx.Client(base_url=address, trust_env=False) as http:
        answer = http.post("/v1/jobs", json={"recipe": {"epochs": 20}}, headers=admin)
        assert answer.status_code == 201, answer.text
        job = answer.json()["id"]
    api.kill()
    api.wait()
    any_place.worker()
    any_place.wait_for_log(job, "tick 2 ")
    _, address = any_place.serve()
    with httpx.Client(base_url=address, trust_env=False, timeout=20) as http:
        assert [job_shown["id"] for job_shown in http.get("/v1/jobs").json()] == [job]
        shown = http.get(f"/v1/jobs/{job}").json()
        assert shown["progress"]["epochs"] == 20
        # The log is followed while it grows, and ends with the job.
        followed = http.get(f"/v1/jobs/{job}/log", params={"follow": "true"})
        assert followed.headers["content-type"] == "application/x-ndjson"
        assert len(ticks_of(followed.text)) == 20
        assert http.get(f"/v1/jobs/{job}").json()["state"] == "succeeded"
        # What the worker published is served by the API that ran all the while.
        assert http.get("/v1/models/production").json()["data"]["name"] == "synthetic"
