"""Routes of candidate lists, which devices rerank."""

from typing import Annotated, Self

from fastapi import APIRouter
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StringConstraints,
    model_validator,
)

from cloud_service.api import examples
from cloud_service.api.context import ModelName, Services, ServicesDep
from cloud_service.http.problems import RequestTimeout, RequestTooLarge, documented
from shared.errors import InvalidRequest, NotReady, RetiredModel, UnknownItem, UnknownModel
from shared.manifest import Version
from shared.model import StrictModel, as_integer

router = APIRouter(prefix="/v1/models", tags=["candidates"])

LONGEST_ID = 256
_EXACT = 2**53 - 1
"""Largest integer id: many programs read JSON numbers as float64, which is exact up to here.
Larger ids are sent as strings."""
CLICKS = 10_000
"""Most clicks of one user."""


def _digits(value: object) -> object:
    """Accepts 87.0 as the integer 87, like JSON Schema, as long as a float is exact."""
    return as_integer(value) if isinstance(value, float) and abs(value) <= _EXACT else value


Click = (
    Annotated[StrictInt, Field(ge=-_EXACT, le=_EXACT), BeforeValidator(_digits)]
    | Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_ID)]
)
Clicks = Annotated[
    list[Click],
    Field(
        max_length=CLICKS,
        description="catalogue ids, oldest first; an integer stands for its digits",
    ),
]
Row = Annotated[StrictInt, BeforeValidator(as_integer)]
Rows = Annotated[
    list[Row],
    Field(max_length=CLICKS, description="rows of the bundle's item table, from 1, oldest first"),
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


class CandidateRequest(StrictModel):
    """Clicks of one user (`clicks` or `rows`) and the number of candidates."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"clicks": ["85123A", "22423", 47566], "count": 5}]},
    )

    clicks: Clicks | None = None
    rows: Rows | None = None
    count: Count = 100
    exclude_clicked: ExcludeClicked = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        _check_one(self.clicks, self.rows)
        return self


class CandidateList(BaseModel):
    """Candidates, best first: `candidates` if the request had `clicks`, `rows` if it had `rows`."""

    version: Version
    candidates: list[str] | None = Field(None, description="catalogue ids")
    rows: list[int] | None = Field(None, description="rows of the bundle's item table, from 1")


class BatchRequest(StrictModel):
    """Clicks of up to 256 users (`clicks` or `rows`) and the number of candidates."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"clicks": [["85123A", 22423], ["47566"]], "count": 5}]},
    )

    clicks: Annotated[list[Clicks], Field(min_length=1, max_length=256)] | None = None
    rows: Annotated[list[Rows], Field(min_length=1, max_length=256)] | None = None
    count: Count = 100
    exclude_clicked: ExcludeClicked = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        _check_one(self.clicks, self.rows)
        return self


class CandidateLists(BaseModel):
    """One list per user, in the order of the request."""

    version: Version
    candidates: list[list[str]] | None = Field(None, description="catalogue ids")
    rows: list[list[int]] | None = Field(
        None, description="rows of the bundle's item table, from 1"
    )


def _check_one(clicks: object, rows: object) -> None:
    if (clicks is None) == (rows is None):
        raise ValueError("give either clicks, catalogue ids, or rows, of the item table")


@router.post(
    "/{version}/candidates",
    responses=examples.answer(
        {"version": examples.VERSION, "candidates": ["22423", "85123A", "47566"]}
    )
    | _ERRORS,
    response_model_exclude_none=True,
)
def list_candidates(
    version: ModelName, query: CandidateRequest, services: ServicesDep
) -> CandidateList:
    """Items to rerank for one user: neighbours of the last ten clicks, then popular items."""
    exact = services.models.named(version)
    many = BatchRequest(
        clicks=None if query.clicks is None else [query.clicks],
        rows=None if query.rows is None else [query.rows],
        count=query.count,
        exclude_clicked=query.exclude_clicked,
    )
    lists = _lists(exact, many, services)
    return CandidateList(
        version=exact,
        candidates=lists.candidates[0] if lists.candidates else None,
        rows=lists.rows[0] if lists.rows else None,
    )


@router.post(
    "/{version}/candidates:batch",
    responses=examples.answer(
        {"version": examples.VERSION, "candidates": [["22423", "85123A"], ["47566", "22423"]]}
    )
    | _ERRORS,
    response_model_exclude_none=True,
)
def list_candidates_of_many(
    version: ModelName, query: BatchRequest, services: ServicesDep
) -> CandidateLists:
    """Items to rerank for up to 256 users in one call."""
    return _lists(services.models.named(version), query, services)


def _lists(exact: str, query: BatchRequest, services: Services) -> CandidateLists:
    chosen, exclude = services.candidates, query.exclude_clicked
    if query.clicks is not None:
        ids = chosen.lists(exact, query.clicks, query.count, exclude_clicked=exclude)
        return CandidateLists(version=exact, candidates=ids)
    rows = chosen.row_lists(exact, query.rows or [], query.count, exclude_clicked=exclude)
    return CandidateLists(version=exact, rows=rows)
