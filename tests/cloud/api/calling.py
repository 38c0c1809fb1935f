"""Publishes small bundles with known candidate lists, and calls the application."""

import asyncio
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
from safetensors.numpy import save as save_arrays

from cloud_service.api.app import create_app
from cloud_service.api.context import Services
from cloud_service.bootstrap import build_services
from cloud_service.settings import CloudSettings
from cloud_service.storage.port import StoreFile
from cloud_service.storage.store import Store
from shared.manifest import FileEntry, Manifest, TrainingData
from shared.model import ModelSettings

ITEMS = 6
IDS = [b"a1", b"b2", b"c3", b"d4", b"e5", b"f6"]


def publish(
    store: Store,
    name: str = "small",
    size: int = 100_000,
    *,
    seen_left_out: bool = False,
    ids: Sequence[bytes] = IDS,
) -> str:
    """Publishes a version with hand-made neighbours; `name` makes its content unique."""

    def describe(entries: tuple[FileEntry, ...]) -> Manifest:
        return Manifest(
            model=ModelSettings(dim=8, heads=2, segment=4, length=4),
            items=ITEMS,
            opset=18,
            data=TrainingData(
                name=name,
                users=3,
                items=ITEMS,
                clicks=20,
                synthetic=True,
                preprocessing="none",
                seen_left_out=seen_left_out,
            ),
            metrics={"corrected/all/ndcg@10": 0.5},
            created=datetime(2026, 1, 2, tzinfo=UTC),
            files=entries,
        )

    near = np.zeros((ITEMS + 1, 2), np.int32)
    weights = np.zeros((ITEMS + 1, 2), np.float32)
    near[1], weights[1] = (2, 3), (1.0, 0.5)
    near[2], weights[2] = (3, 0), (1.0, 0.0)
    near[4], weights[4] = (1, 5), (0.9, 0.9)
    popular = np.array([6, 5, 4, 3, 2, 1], np.int32)
    buffer = io.BytesIO()
    np.save(buffer, np.array(ids), allow_pickle=False)
    return store.publish(
        {
            "hidden.onnx": StoreFile(bytes(range(256)) * (size // 256), "device"),
            "item_ids.npy": StoreFile(buffer.getvalue(), "device"),
            "empty.bin": StoreFile(b"", "device"),
            "gcn.onnx": StoreFile(b"not for devices", "cloud"),
            "gcn_row.onnx": StoreFile(b"nor this", "cloud"),
            "neighbours.safetensors": StoreFile(
                save_arrays({"ids": near, "weights": weights, "popular": popular}), "cloud"
            ),
        },
        describe,
    )


class Caller:
    """Calls the application as a client with one address; with a token as an admin."""

    def __init__(
        self,
        app: Any,
        client: str = "127.0.0.1",
        host: str = "localhost:8000",
        token: str | None = None,
    ) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(client, 50))
        self._base = f"http://{host}"
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def call() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=self._transport, base_url=self._base, headers=self._headers
            ) as line:
                return await line.request(method, path, **options)

        return asyncio.run(call())


class Cloud:
    """An application with its own store."""

    def __init__(self, settings: CloudSettings) -> None:
        self.settings = settings
        self.store = Store(settings.store)
        self.services: Services = build_services(settings)
        self.app = create_app(
            self.services,
            max_json_bytes=settings.max_json_bytes,
            body_timeout=settings.body_timeout,
            close=self.services.jobs.close,
        )
        self.call = Caller(self.app, token=self.services.admin_token)

    def promoted(self, name: str = "small") -> str:
        """Publishes and promotes a version; returns it."""
        version = publish(self.store, name)
        self.store.promote(version)
        return version


def code_of(answer: httpx.Response) -> str:
    """Checks that an answer is a problem document; returns its code."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    document = answer.json()
    assert set(document) == {"type", "title", "status", "detail"}
    assert document["status"] == answer.status_code
    assert document["detail"]
    return str(document["type"].removeprefix("urn:device-cloud-recommendation:problem:"))
