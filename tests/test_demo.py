"""What `make demo` trains and what it serves again, without its processes."""

import importlib.util
from pathlib import Path

import httpx
import pytest

SPEC = importlib.util.spec_from_file_location(
    "demo", Path(__file__).parent.parent / "scripts" / "demo.py"
)
OLD, NEW = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture
def demo(monkeypatch):
    """The script, with a cloud that is three tables and commands that are noted."""
    module = importlib.util.module_from_spec(SPEC)
    SPEC.loader.exec_module(module)
    module.aliases, module.published, module.commands = {"shop": OLD}, [OLD], []

    def get(url, params=None):
        if url.endswith("/v1/models"):
            body = [
                {
                    "version": version,
                    "log_alias": "shop",
                    "aliases": [a for a, v in module.aliases.items() if v == version],
                }
                for version in module.published
            ]
        elif url.endswith("/v1/jobs"):
            body = [{"version": module.published[-1]}]
        else:
            body = {}
        headers = {"model-version": module.aliases.get(url.rsplit("/", 1)[1], "")}
        return httpx.Response(200, json=body, headers=headers, request=httpx.Request("GET", url))

    monkeypatch.setattr(module.httpx, "get", get)
    monkeypatch.setattr(module, "_run", lambda *words: module.commands.append(words))
    return module


def test_a_model_of_the_same_clicks_is_served_again_and_no_other(demo, tmp_path):
    record, made = tmp_path / "demo.json", {"clicks": "a", "recipe": {"minutes": 8.0}}
    assert demo._alias_of("http://c", record, made) is None
    assert demo._train("http://c", made["recipe"], tmp_path, made, always=False) == "shop"
    assert demo._alias_of("http://c", record, made) == "shop"
    assert demo._alias_of("http://c", record, made | {"clicks": "b"}) is None
    assert demo._alias_of("http://c", record, made | {"recipe": {}}) is None
    demo.published.append(NEW)
    demo.aliases["shop"] = NEW  # another log of this name took the alias
    assert demo._alias_of("http://c", record, made) is None


def test_a_new_model_that_ranks_worse_is_not_trained_again_at_the_next_run(demo, tmp_path):
    record, made = tmp_path / "demo.json", {"clicks": "a", "recipe": {}}
    demo.published.append(NEW)  # published, and the alias stays with the old one
    assert demo._train("http://c", {}, tmp_path, made, always=False) == "shop"
    assert demo._alias_of("http://c", record, made) == "shop"


def test_retraining_serves_what_comes_of_it(demo, tmp_path):
    for always in (False, True):
        demo._train("http://c", {"minutes": 8.0}, tmp_path, {}, always=always)
    assert [("--promote=always" in words) for words in demo.commands] == [False, True]
    assert all("--minutes=8.0" in words for words in demo.commands)


def test_a_record_of_an_older_form_is_no_model(demo, tmp_path):
    record = tmp_path / "demo.json"
    for text in ('{"clicks": "a", "recipe": {}, "version": "x"}', "[]", "no JSON"):
        record.write_text(text)
        assert demo._alias_of("http://c", record, {"clicks": "a", "recipe": {}}) is None


def test_a_sample_is_said(demo, monkeypatch, capsys):
    data = {"users": 1200, "clicks": 90_000, "preprocessing": "a sample of 1,300 of 9,000"}
    answer = httpx.Response(200, json={"data": data}, request=httpx.Request("GET", "http://c"))
    monkeypatch.setattr(demo.httpx, "get", lambda url: answer)
    demo._describe("http://c", "shop")
    said = "shop: trained on 1,200 users and 90,000 of their clicks; a sample of 1,300 of 9,000"
    assert capsys.readouterr().out.strip() == said
