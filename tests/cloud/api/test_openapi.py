"""The OpenAPI page has examples everywhere and documents only errors that can happen."""

import asyncio
import sqlite3

import pytest
from calling import Caller, code_of, publish

from cloud_service.http import problems
from shared import errors
from shared.problems import MEDIA_TYPE

JOB = "c9fb854d-f78e-42d8-950c-abc42a25acf9"
NOWHERE = "postgresql://u:p@127.0.0.1:1/n?connect_timeout=1"
CORRECTION = "/v1/models/{version}/correction"
SAMPLES = "/v1/models/{version}/samples"
"""Not by FastAPI; test_samples_api.py provokes each of its problems."""


@pytest.fixture
def page(cloud):
    return cloud.call("GET", "/openapi.json").json()


def operations(page):
    for path, methods in page["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_every_operation_has_words_and_examples(page):
    for method, path, operation in operations(page):
        label = f"{method} {path}"
        assert operation.get("summary"), label
        assert operation.get("description"), label
        for parameter in operation.get("parameters", ()):
            schema = parameter["schema"]
            examples = {"example", "examples"} & (parameter.keys() | schema.keys())
            assert examples or "default" in schema, f"{label}: {parameter['name']}"
        if "requestBody" in operation:
            for content in operation["requestBody"]["content"].values():
                assert _has_example(page, content), f"{label}: body"
        if path == CORRECTION:
            continue  # bytes, described by shared/WIRE.md
        good = {s: r for s, r in operation["responses"].items() if s.startswith("2")}
        assert good, label
        for response in good.values():
            for content in response["content"].values():
                assert "example" in content or "examples" in content, label


def _has_example(page, content):
    schema = content["schema"]
    if "$ref" in schema:
        schema = page["components"]["schemas"][schema["$ref"].split("/")[-1]]
    return "example" in content or "examples" in content or "examples" in schema


def test_every_reference_leads_somewhere_and_no_schema_is_fastapis_own(page):
    schemas = page["components"]["schemas"]
    assert "HTTPValidationError" not in str(page)
    references = str(page).split("'#/components/schemas/")[1:]
    assert {text.split("'")[0] for text in references} <= schemas.keys()


@pytest.mark.slow
def test_the_examples_of_bodies_are_taken(cloud, page):
    cloud.promoted()
    for path, name in (
        ("/v1/models/production/candidates", "CandidateRequest"),
        ("/v1/models/production/candidates:batch", "BatchRequest"),
    ):
        for example in page["components"]["schemas"][name]["examples"]:
            answer = cloud.call("POST", path, json=example)
            # The catalogue of the test has other items; the shape is what counts.
            assert answer.status_code == 200 or code_of(answer) == "unknown-item"
    body = page["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    for example in body["examples"].values():
        assert cloud.call("POST", "/v1/jobs", json=example["value"]).status_code == 201


def test_the_page_for_people_is_there(cloud):
    answer = cloud.call("GET", "/docs")
    assert answer.status_code == 200
    assert "/openapi.json" in answer.text


def test_every_documented_problem_of_corrections_is_a_known_error(page):
    statuses = {}
    for error_type in [*vars(errors).values(), *vars(problems).values()]:
        if isinstance(error_type, type) and issubclass(error_type, errors.RecommendationError):
            statuses[error_type.code] = error_type.status
    for status, response in page["paths"][CORRECTION]["post"]["responses"].items():
        if status != "200":
            codes = response["description"].replace(",", " ").replace(" or ", " ").split()
            assert {statuses[code] for code in codes} == {int(status)}


@pytest.mark.slow
def test_every_documented_problem_happens(make_cloud, tmp_path, page):
    seen = 0
    for method, path, operation in operations(page):
        if path in (CORRECTION, SAMPLES):
            continue
        for status, response in operation["responses"].items():
            if status < "400":
                continue
            examples = response["content"][MEDIA_TYPE]["examples"]
            for code, example in examples.items():
                assert example["value"]["status"] == int(status)
                folder = tmp_path / str(seen)
                answer = PROVOKED[code](lambda **v: make_cloud(**v), folder, method, path)
                assert (str(answer.status_code), code_of(answer)) == (status, code), path
                seen += 1
    assert seen > 40


def _call(
    cloud, method, path, version="0123456789abcdef", client="127.0.0.1", is_admin=True, **options
):
    filled = path.format(version=version, name="hidden.onnx", job=options.pop("job", JOB))
    if method == "POST" and not {"json", "content"} & options.keys():
        options["json"] = _body(path)
    caller = Caller(
        cloud.app, client=client, token=cloud.services.admin_token if is_admin else None
    )
    return caller(method, filled, **options)


def _body(path, click=1):
    if path.endswith(":batch"):
        return {"clicks": [[click]]}
    return {"clicks": [click]} if path.endswith("candidates") else {}


def _unauthorized(make, folder, method, path):
    return _call(make(store=folder), method, path, is_admin=False)


def _forbidden(make, folder, method, path):
    return _call(make(store=folder), method, path, client="203.0.113.9")


def _plain(make, folder, method, path):
    return _call(make(store=folder, serve_replays=True), method, path)


def _not_ready(make, folder, method, path):
    return _call(make(store=folder), method, path, version="production")


def _retired(make, folder, method, path):
    cloud = make(store=folder, serve_replays=True)
    version = publish(cloud.store)
    cloud.store.retire(version)
    return _call(cloud, method, path, version=version)


def _unknown_file(make, folder, method, path):
    cloud = make(store=folder)
    return _call(cloud, method, path.replace("{name}", "none"), version=cloud.promoted())


def _no_range(make, folder, method, path):
    cloud = make(store=folder)
    far = {"range": "bytes=99999999-"}
    return _call(cloud, method, path, version=cloud.promoted(), headers=far)


def _in_production(make, folder, method, path):
    cloud = make(store=folder, serve_replays=True)
    return _call(cloud, method, path, version=cloud.promoted())


def _no_alias(make, folder, method, path):
    cloud = make(store=folder)
    return _call(cloud, method, path + "?alias=No", version=cloud.promoted())


def _unknown_item(make, folder, method, path):
    cloud = make(store=folder)
    return _call(cloud, method, path, version=cloud.promoted(), json=_body(path, click=99))


def _invalid(make, folder, method, path):
    if method == "POST":
        return _call(make(store=folder), method, path, json=[])
    cloud = make(store=folder)
    job = cloud.call("POST", "/v1/jobs", json={}).json()["id"]
    return _call(cloud, method, path + "?limit=x&follow=x", job=job)


def _too_large(make, folder, method, path):
    return _call(make(store=folder, max_json_bytes=1024), method, path, content=b"x" * 1025)


def _too_slow(make, folder, method, path):
    async def slow():
        yield b"{"
        await asyncio.sleep(1)

    return _call(make(store=folder, body_timeout=0.01), method, path, content=slow())


def _no_data(make, folder, method, path):
    return _call(make(store=folder), method, path, json={"recipe": {"data": "none.csv"}})


def _no_database(make, folder, method, path):
    return _call(make(store=folder, database_url=NOWHERE), method, path)


def _over(make, folder, method, path):
    cloud = make(store=folder)
    job = cloud.call("POST", "/v1/jobs", json={}).json()["id"]
    database = sqlite3.connect(folder / "jobs.sqlite")
    with database:
        database.execute("UPDATE workflow_status SET status = 'SUCCESS'")
    database.close()
    return _call(cloud, method, path, job=job)


PROVOKED = {
    "unauthorized": _unauthorized,
    "forbidden": _forbidden,
    "unknown-model": _plain,
    "unknown-job": _plain,
    "not-ready": _not_ready,
    "retired-model": _retired,
    "unknown-file": _unknown_file,
    "range-invalid": _no_range,
    "no-replay": _in_production,
    "in-use": _in_production,
    "invalid-alias": _no_alias,
    "unknown-item": _unknown_item,
    "invalid-request": _invalid,
    "request-too-large": _too_large,
    "request-timeout": _too_slow,
    "data": _no_data,
    "jobs-unavailable": _no_database,
    "job-over": _over,
}
