"""The routes of jobs, without a worker."""

import json

import pytest
from calling import code_of


def submit(cloud, **recipe):
    return cloud.call("POST", "/v1/jobs", json={"recipe": recipe})


def test_a_job_is_queued_listed_shown_and_cancelled(cloud):
    created = submit(cloud, epochs=3)
    assert created.status_code == 201
    job = created.json()
    assert job["state"] == "queued"
    assert job["request"]["recipe"]["epochs"] == 3
    assert created.headers["location"] == f"/v1/jobs/{job['id']}"
    assert cloud.call("GET", "/v1/jobs").json() == [job]
    assert cloud.call("GET", f"/v1/jobs/{job['id']}").json() == job
    cancelled = cloud.call("POST", f"/v1/jobs/{job['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert cloud.call("POST", f"/v1/jobs/{job['id']}/cancel").json()["state"] == "cancelled"
    (line,) = cloud.call("GET", f"/v1/jobs/{job['id']}/log").text.splitlines()
    assert json.loads(line)["message"] == "Asked to stop."


def test_the_newest_jobs_come_first_and_as_many_as_asked(cloud):
    submitted = [submit(cloud, seed=seed).json()["id"] for seed in range(3)]
    jobs = cloud.call("GET", "/v1/jobs?limit=2").json()
    assert [job["id"] for job in jobs] == submitted[:0:-1]


def test_a_job_may_name_a_file_of_the_data_folder(cloud):
    (cloud.store.folder / "data" / "clicks of may.csv").write_text("user_id\n")
    assert submit(cloud, data="clicks of may.csv").status_code == 201
    both = {"data": "clicks of may.csv", "items": "clicks of may.csv"}
    assert submit(cloud, **both).status_code == 201


def test_a_set_that_was_not_fetched_is_refused_with_the_command_that_fetches_it(cloud):
    folder = cloud.store.folder / "data"
    answer = submit(cloud, data="online-retail")
    assert (answer.status_code, code_of(answer)) == (422, "data")
    command = f"`cloud-service fetch online-retail --folder {folder}`"
    assert f"has not been fetched yet: {command}" in answer.json()["detail"]
    (folder / "online-retail.csv.gz").write_bytes(b"clicks")
    answer = submit(cloud, data="online-retail")
    assert code_of(answer) == "data"
    assert "its titles are not (online-retail-items.csv.gz)" in answer.json()["detail"]
    assert command in answer.json()["detail"]
    (folder / "online-retail-items.csv.gz").write_bytes(b"titles")
    assert submit(cloud, data="online-retail").status_code == 201


@pytest.mark.parametrize("items", ["online-retail", "synthetic", "titles.csv"])
def test_an_item_file_that_is_no_file_of_the_folder_is_refused(cloud, items):
    (cloud.store.folder / "data" / "clicks.csv").write_text("user_id\n")
    answer = submit(cloud, data="clicks.csv", items=items)
    assert (answer.status_code, code_of(answer)) == (422, "data")
    assert "clicks.csv" in answer.json()["detail"]


def test_the_generated_set_takes_no_item_file(cloud):
    (cloud.store.folder / "data" / "titles.csv").write_text("item_id,title\n")
    answer = submit(cloud, items="titles.csv")
    assert (answer.status_code, code_of(answer)) == (422, "data")
    assert "leave the item file out" in answer.json()["detail"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "nothing.csv",
        "../secret.csv",
        "/etc/passwd",
        ".hidden.csv",
        ".",
        "..",
        "folder",
        "SYNTHETIC",
        "a" * 5000,
        "data/here.csv",
        "here.csv\x00",
    ],
)
@pytest.mark.parametrize("field", ["data", "items"])
def test_any_other_name_is_refused(cloud, name, field):
    folder = cloud.store.folder / "data"
    (folder / "folder").mkdir()
    (folder / ".hidden.csv").write_text("x")
    (folder / "here.csv").write_text("x")
    (cloud.store.folder / "secret.csv").write_text("x")
    answer = submit(cloud, **{"data": "here.csv"} | {field: name})
    assert (answer.status_code, code_of(answer)) == (422, "data")
    assert "here.csv" in answer.json()["detail"]
    assert "secret" not in answer.json()["detail"].replace("../secret.csv", "")


@pytest.mark.parametrize(
    "body",
    [
        {"recipe": {"epochs": 0}},
        {"recipe": {"learning_rate": "fast"}},
        {"recipe": {"model": {"dim": 10, "heads": 4}}},
        {"recipe": {"unknown": 1}},
        {"unknown": 1},
        {"recipe": {"data": ""}},
        {"recipe": {"holdout_users": 1.0}},
        [1, 2],
        None,
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(cloud, body):
    answer = cloud.call("POST", "/v1/jobs", json=body)
    assert (answer.status_code, code_of(answer)) == (422, "invalid-request")
    assert cloud.call("GET", "/v1/jobs").json() == []


@pytest.mark.parametrize("job", ["x", "c9fb854d-f78e-42d8-950c-abc42a25acf9", "x" * 3000, "%00"])
def test_an_unknown_job_is_a_problem(cloud, job):
    for method, path in (("GET", ""), ("GET", "/log"), ("POST", "/cancel")):
        answer = cloud.call(method, f"/v1/jobs/{job}{path}")
        assert (answer.status_code, code_of(answer)) == (404, "unknown-job")


@pytest.mark.parametrize("limit", ["0", "501", "-1", "many"])
def test_a_limit_out_of_bounds_is_refused(cloud, limit):
    assert code_of(cloud.call("GET", f"/v1/jobs?limit={limit}")) == "invalid-request"


def test_without_its_database_the_list_is_a_problem_and_the_rest_goes_on(make_cloud):
    cloud = make_cloud(database_url="postgresql://u:hidden@127.0.0.1:1/n?connect_timeout=1")
    answer = cloud.call("GET", "/v1/jobs")
    assert (answer.status_code, code_of(answer)) == (503, "jobs-unavailable")
    assert "retry-after" in answer.headers
    assert "hidden" not in answer.text
    assert cloud.call("GET", "/v1/models").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"recipe": {"weight_decay": True}},
        {"recipe": {"epochs": "5"}},
        {"recipe": {"model": {"dim": "64"}}},
        {"promote": "yes"},
        {"promote": 1},
        {"promote": True},
    ],
)
def test_a_value_of_another_type_is_refused_as_the_description_says(cloud, body):
    answer = cloud.call("POST", "/v1/jobs", json=body)
    assert (answer.status_code, code_of(answer)) == (422, "invalid-request")


def test_a_whole_number_may_be_written_with_a_point(cloud):
    answer = cloud.call("POST", "/v1/jobs", content=b'{"recipe": {"epochs": 5.0}}',
                        headers={"content-type": "application/json"})  # fmt: skip
    assert answer.status_code == 201
    assert answer.json()["request"]["recipe"]["epochs"] == 5
