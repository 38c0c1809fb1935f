"""Fixtures: applications with their own stores."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from calling import Cloud

from cloud_service.settings import load_settings


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in load_settings().model_fields_set:
        monkeypatch.delenv(f"CLOUD_{name.upper()}", raising=False)


@pytest.fixture
def make_cloud(tmp_path: Path) -> Iterator[Callable[..., Cloud]]:
    """Returns a function that creates applications; closes them after the test."""
    clouds: list[Cloud] = []

    def make(**values: Any) -> Cloud:
        clouds.append(Cloud(load_settings(**({"store": tmp_path / "store"} | values))))
        return clouds[-1]

    yield make
    for cloud in clouds:
        cloud.services.jobs.close()


@pytest.fixture
def cloud(make_cloud: Callable[..., Cloud]) -> Cloud:
    """An application that created its own admin token and hands out replays."""
    return make_cloud(serve_replays=True)
