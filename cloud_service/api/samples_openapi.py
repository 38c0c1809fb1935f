"""The OpenAPI entry of the samples' endpoint, which is not a FastAPI route."""

from typing import Any, Final

from cloud_service.api.samples import DeviceUnauthorized, SamplesBusy
from cloud_service.http.problems import (
    MethodNotAllowed,
    RequestTimeout,
    RequestTooLarge,
    documented,
)
from cloud_service.services.samples import NoSamples
from shared.errors import (
    BundleInvalid,
    Forbidden,
    LengthRequired,
    NotFinite,
    RetiredModel,
    UnknownItem,
    UnknownModel,
    WrongLength,
)
from shared.samples import (
    MOST_SAMPLES,
    RANDOM_TYPE,
    ROWS_TYPE,
    SAMPLE_TYPES,
    STATES_TYPE,
    BadCount,
    NoSuchForm,
    WrongQueryType,
)

_BINARY: Final = {"type": "string", "format": "binary"}
_ERRORS: Final = (
    Forbidden, DeviceUnauthorized, MethodNotAllowed, WrongQueryType, NoSuchForm, LengthRequired,
    RequestTooLarge, RequestTimeout, BadCount, WrongLength, NotFinite, UnknownItem, UnknownModel,
    RetiredModel, NoSamples, BundleInvalid, SamplesBusy,
)  # fmt: skip


def _query(description: str, example: str) -> dict[str, Any]:
    return {"schema": _BINARY | {"description": description}, "example": example}


OPENAPI_PATH: Final[dict[str, Any]] = {
    "post": {
        "tags": ["samples"],
        "operationId": "samples",
        "summary": "Samples of other users for a device that learns",
        "description": "User states before a click, and the clicked items, as raw little-endian "
        "numbers: see shared/WIRE.md. Needs `Authorization: Bearer TOKEN` with the cloud's "
        "CLOUD_DEVICE_TOKEN; without that setting there are no samples.",
        "parameters": [
            {
                "name": "version",
                "in": "path",
                "required": True,
                "schema": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
                "example": "8a6c1f0b9d3e5724",
            },
            {
                "name": "Sample-Count",
                "in": "header",
                "required": False,
                "schema": {"type": "integer", "minimum": 1, "maximum": MOST_SAMPLES},
                "example": MOST_SAMPLES,
            },
        ],
        "requestBody": {
            "required": True,
            "content": {
                STATES_TYPE: _query("1 to 8 user states (m, D) float16", "(128 bytes: one state)"),
                ROWS_TYPE: _query("1 to 64 rows uint32, oldest first", "(40 bytes: ten rows)"),
                RANDOM_TYPE: _query("nothing", "(0 bytes)"),
            },
        },
        "responses": {
            "200": {
                "description": "The samples, in the form of its Content-Type",
                "headers": {
                    "Model-Version": {"schema": {"type": "string"}, "example": "8a6c1f0b9d3e5724"},
                    "Sample-Check": {
                        "description": "CRC-32 of the query and then of the answer",
                        "schema": {"type": "string", "pattern": "^[0-9a-f]{8}$"},
                        "example": "1c291ca3",
                    },
                },
                "content": {
                    media_type: {"schema": _BINARY, "example": "(the samples' bytes)"}
                    for media_type in SAMPLE_TYPES.values()
                },
            },
            **{str(status): entry for status, entry in documented(*_ERRORS).items()},
        },
    }
}
