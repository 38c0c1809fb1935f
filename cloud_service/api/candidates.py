"""Candidate lists: what a device reranks."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, StringConstraints

from cloud_service.api import examples
from cloud_service.api.context import ModelName, Used
from cloud_service.api.problems import RequestTimeout, RequestTooLarge, documented
from shared.errors import InvalidRequest, NotReady, RetiredModel, UnknownItem, UnknownModel
from shared.manifest import Version
from shared.model import Exact, whole

router = APIRouter(prefix="/v1/models", tags=["candidates"])

Click = (
    Annotated[StrictInt, BeforeValidator(whole)]
    | Annotated[str, StringConstraints(min_length=1, max_length=256)]
)
Clicks = Annotated[
    list[Click],
    Field(max_length=10_000, description="oldest first; item numbers or catalogue ids"),
]
Count = Annotated[int, Field(ge=1, le=1000, description="the list may be shorter, never longer")]
ExcludeClicked = Annotated[
    bool | None,
    Field(
        description="leave out what was clicked; by default where nobody in the training data "
        "clicks twice"
    ),
]
_ERRORS = documented(
    UnknownModel, NotReady, RetiredModel, UnknownItem, InvalidRequest, RequestTooLarge,
    RequestTimeout,
)  # fmt: skip


class CandidateRequest(Exact):
    """One user's clicks, and how many candidates are wanted."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"clicks": ["85123A", "22423", 17], "count": 5}]},
    )

    clicks: Clicks
    count: Count = 100
    exclude_clicked: ExcludeClicked = None


class CandidateList(BaseModel):
    """Item numbers, the best first."""

    version: Version
    candidates: list[int]


class BatchRequest(Exact):
    """The clicks of up to 256 users."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"clicks": [[3, 17], [8]], "count": 5}]},
    )

    clicks: Annotated[list[Clicks], Field(min_length=1, max_length=256)]
    count: Count = 100
    exclude_clicked: ExcludeClicked = None


class CandidateLists(BaseModel):
    """One list per user, in their order."""

    version: Version
    candidates: list[list[int]]


@router.post(
    "/{version}/candidates",
    responses=examples.answer({"version": examples.VERSION, "candidates": [4, 812, 17, 9, 33]})
    | _ERRORS,
)
def list_candidates(version: ModelName, asked: CandidateRequest, services: Used) -> CandidateList:
    """Items to rerank for one user: neighbours of the last ten clicks, then popular items."""
    exact = services.models.named(version)
    (found,) = services.candidates.lists(
        exact, [asked.clicks], asked.count, exclude_clicked=asked.exclude_clicked
    )
    return CandidateList(version=exact, candidates=found)


@router.post(
    "/{version}/candidates:batch",
    responses=examples.answer(
        {"version": examples.VERSION, "candidates": [[4, 812, 17, 9, 33], [21, 8, 2, 5, 40]]}
    )
    | _ERRORS,
)
def list_candidates_of_many(
    version: ModelName, asked: BatchRequest, services: Used
) -> CandidateLists:
    """The same for up to 256 users in one call."""
    exact = services.models.named(version)
    found = services.candidates.lists(
        exact, asked.clicks, asked.count, exclude_clicked=asked.exclude_clicked
    )
    return CandidateLists(version=exact, candidates=found)
