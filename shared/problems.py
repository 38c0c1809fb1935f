"""Problem details (RFC 9457): the form of every error that the cloud sends."""

from pydantic import BaseModel, ConfigDict, Field

from shared.errors import RecommendationError

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:device-cloud-recommendation:problem:"


class Problem(BaseModel):
    """A problem document. `type` ends with the `code` of an error in `shared.errors`."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(examples=[TYPE_PREFIX + "wrong-length"])
    title: str
    status: int = Field(ge=400, le=599)
    detail: str

    @classmethod
    def of(cls, error: RecommendationError) -> "Problem":
        """The document for `error`."""
        return cls(
            type=TYPE_PREFIX + error.code,
            title=error.title,
            status=error.status,
            detail=error.detail,
        )

    @property
    def code(self) -> str:
        """The error's code: the last part of `type`."""
        return self.type.removeprefix(TYPE_PREFIX)
