"""The OpenAPI entry of the correction endpoint, which is not a FastAPI route."""

from typing import Any

from shared.problems import MEDIA_TYPE as PROBLEM_TYPE
from shared.wire import FORMS, HALF_HIDDEN_TYPE, HIDDEN_TYPE, ROW_TYPE

_PROBLEM = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_BINARY = {"type": "string", "format": "binary"}
_CORRECTION_TYPES = tuple(layout.correction_type for layout in FORMS.values())

OPENAPI_PATH: dict[str, Any] = {
    "post": {
        "tags": ["corrections"],
        "operationId": "correct",
        "summary": "The correction of one H",
        "description": "H up, `attn` then `bias` down, as raw little-endian float32: see "
        "shared/WIRE.md. 2,560 B up, 4,160 B or (compact) 416 B down at the default shape; half "
        "of that in float16, where the media types say so.",
        "parameters": [
            {
                "name": "version",
                "in": "path",
                "required": True,
                "schema": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
                "example": "8a6c1f0b9d3e5724",
            },
            {
                "name": "Accept",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "enum": [*_CORRECTION_TYPES]},
                "example": ROW_TYPE,
            },
            {
                "name": "Correction-Deadline",
                "in": "header",
                "required": False,
                "description": "milliseconds after which the answer is of no use any more",
                "schema": {"type": "number", "minimum": 0, "maximum": 999_999_999},
                "example": 250,
            },
        ],
        "requestBody": {
            "required": True,
            "content": {
                HIDDEN_TYPE: {
                    "schema": _BINARY | {"description": "H, (K, D) float32, oldest click first"},
                    "examples": {
                        "one click": {
                            "summary": "H of one click",
                            "value": "(2,560 bytes: 64 float32 of one row of H, then 576 zeros)",
                        }
                    },
                },
                HALF_HIDDEN_TYPE: {
                    "schema": _BINARY | {"description": "H, (K, D) float16, oldest click first"},
                    "examples": {
                        "one click": {
                            "summary": "H of one click",
                            "value": "(1,280 bytes: 64 float16 of one row of H, then 576 zeros)",
                        }
                    },
                },
            },
        },
        "responses": {
            "200": {
                "description": "The correction, in the form of its Content-Type",
                "headers": {
                    "Model-Version": {"schema": {"type": "string"}, "example": "8a6c1f0b9d3e5724"},
                    "Correction-Check": {
                        "description": "CRC-32 of H and then of the correction",
                        "schema": {"type": "string", "pattern": "^[0-9a-f]{8}$"},
                        "example": "1c291ca3",
                    },
                    "Server-Timing": {
                        "schema": {"type": "string"},
                        "example": "queue;dur=0.021, gcn;dur=0.112",
                    },
                },
                "content": {media_type: {"schema": _BINARY} for media_type in _CORRECTION_TYPES},
            },
            "400": {"description": "wrong-length, bad-deadline or bad-http", "content": _PROBLEM},
            "404": {"description": "unknown-model", "content": _PROBLEM},
            "405": {"description": "method-not-allowed", "content": _PROBLEM},
            "406": {"description": "not-acceptable", "content": _PROBLEM},
            "408": {"description": "request-timeout", "content": _PROBLEM},
            "410": {"description": "retired-model", "content": _PROBLEM},
            "411": {"description": "length-required", "content": _PROBLEM},
            "413": {"description": "body-too-large", "content": _PROBLEM},
            "415": {"description": "wrong-media-type", "content": _PROBLEM},
            "422": {
                "description": "not-finite, empty-hidden or unusable-hidden",
                "content": _PROBLEM,
            },
            "431": {"description": "head-too-large", "content": _PROBLEM},
            "503": {"description": "overloaded or too-many-connections", "content": _PROBLEM},
            "504": {"description": "deadline-passed", "content": _PROBLEM},
        },
    }
}
