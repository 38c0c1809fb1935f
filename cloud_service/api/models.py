"""Routes of model versions (/v1/models): manifests, files, promotion, retirement."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from cloud_service.api import examples
from cloud_service.api.auth import ADMIN
from cloud_service.api.context import ExactVersion, ModelName, ServicesDep
from cloud_service.api.files import IMMUTABLE, file_answer, unchanged
from cloud_service.http.problems import RangeInvalid, documented
from cloud_service.services.models import ModelSummary, NoReplay, UnknownFile
from cloud_service.storage.port import PRODUCTION
from cloud_service.storage.store import InUse, InvalidAlias
from shared.errors import Forbidden, NotReady, RetiredModel, Unauthorized, UnknownModel
from shared.wire import VERSION_HEADER

router = APIRouter(prefix="/v1/models", tags=["models"])

FileName = Annotated[str, Path(description="a file of the manifest", examples=["hidden.onnx"])]
_BINARY = "application/octet-stream"
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {_BINARY: {"example": "(the file's bytes)"}}, "description": "The file"},
    206: {"content": {_BINARY: {"example": "(the bytes asked for)"}}, "description": "A part"},
    304: {"description": "The caller holds this content already"},
}

_REPLAY: dict[int | str, dict[str, Any]] = {200: _FILE[200]}


@router.get("", responses=examples.answer([examples.MODEL]))
def list_models(services: ServicesDep) -> list[ModelSummary]:
    """Every model version, the newest first."""
    return services.models.list()


@router.get(
    "/{version}",
    responses=examples.answer(examples.MANIFEST) | documented(UnknownModel, NotReady),
)
def show_model(version: ModelName, services: ServicesDep, request: Request) -> Response:
    """A version's manifest, byte for byte as published.

    `Model-Version` names the version: the first 16 hex digits of the sha256 of these bytes.
    """
    exact = services.models.named(version)
    # An alias may change at any time; a version never does.
    cache = IMMUTABLE if services.models.is_version(version) else "no-cache"
    headers = {"etag": f'"{exact}"', "cache-control": cache, VERSION_HEADER: exact}
    if unchanged(request, headers["etag"]):
        return Response(status_code=304, headers=headers)
    return Response(
        services.models.manifest_bytes(exact), headers=headers, media_type="application/json"
    )


@router.get(
    "/{version}/files/{name}",
    response_class=Response,
    responses=_FILE | documented(UnknownModel, UnknownFile, RetiredModel, RangeInvalid),
)
@router.head("/{version}/files/{name}", include_in_schema=False)
def download_file(
    version: ExactVersion, name: FileName, services: ServicesDep, request: Request
) -> Response:
    """A file for devices, or `manifest.json`. ETag is its sha256; Range and If-Range work."""
    file = services.models.download(version, name)
    return file_answer(request, file.path, file.sha256)


@router.get(
    "/{version}/replay",
    response_class=Response,
    responses=_REPLAY | documented(Forbidden, UnknownModel, NoReplay, RetiredModel),
)
def download_replay(version: ExactVersion, services: ServicesDep) -> Response:
    """Clicks of held-out users for simulated devices: safetensors, `items` and `offsets`."""
    if not services.serve_replays:
        raise Forbidden("this cloud hands out no clicks: set CLOUD_SERVE_REPLAYS=true")
    return Response(services.models.replay(version), media_type=_BINARY)


@router.post(
    "/{version}/promote",
    dependencies=[ADMIN],
    responses=examples.answer(examples.MODEL)
    | documented(Unauthorized, UnknownModel, RetiredModel, InvalidAlias),
)
def promote_model(
    version: ExactVersion,
    services: ServicesDep,
    alias: Annotated[
        str, Query(description="what is to point at it", examples=["online-retail"])
    ] = PRODUCTION,
) -> ModelSummary:
    """Points `production`, or another alias, at a version, after checking every file of it."""
    services.models.promote(version, alias)
    return services.models.summary(version)


@router.post(
    "/{version}/retire",
    dependencies=[ADMIN],
    responses=examples.answer(
        examples.MODEL | {"production": False, "aliases": [], "retired": True}
    )
    | documented(Unauthorized, UnknownModel, InUse),
)
def retire_model(version: ExactVersion, services: ServicesDep) -> ModelSummary:
    """Ends a version's answers, for good. One that an alias points at cannot be retired."""
    services.models.retire(version)
    return services.models.summary(version)
