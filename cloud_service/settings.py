"""The settings of the cloud, read from CLOUD_* environment variables.

settings = load_settings(port=8001)  # an argument takes precedence over the environment
"""

import difflib
import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import unquote

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from cloud_service.admin_token import TOKEN_LENGTH, is_plain
from shared.errors import RecommendationError

PREFIX = "CLOUD_"
_CLIENTS = ("CLOUD_URL",)
"""Variables that the client commands read."""
_PLATFORM = ("CLOUD_ML_", "CLOUD_RUN_", "CLOUD_SDK_", "CLOUD_SHELL")
"""Prefixes of variables that images and services of Google Cloud set."""


class SettingsError(RecommendationError):
    """A setting does not exist or has an invalid value."""

    code: ClassVar[str] = "settings"
    title: ClassVar[str] = "The settings cannot be used"


class CloudSettings(BaseSettings):
    """All settings of the cloud. The variable of a field is CLOUD_ and its name in capitals.

    An unknown CLOUD_* variable is an error, so that a misspelt one is noticed.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True
    )

    store: Path = Field(Path("store"), description="folder of model versions and jobs")
    data_folder: Path | None = Field(
        None, description="click logs that jobs may name; STORE/data where not set"
    )
    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: Annotated[int, Field(ge=0, le=65535, description="0 takes any free one")] = 8000
    database_url: SecretStr | None = Field(
        None,
        description="where jobs are kept: sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME; "
        "a SQLite file in the store where not set",
    )
    admin_token: SecretStr | None = Field(
        None,
        min_length=TOKEN_LENGTH,
        description="bearer token of admin calls; where not set, one is made and kept in "
        "STORE/admin-token",
    )
    device_token: SecretStr | None = Field(
        None,
        min_length=TOKEN_LENGTH,
        description="bearer token of devices that learn; where not set, they get no samples",
    )
    max_json_bytes: Annotated[
        int, Field(ge=1024, le=64 << 20, description="of a JSON request body")
    ] = 4 << 20
    body_timeout: Annotated[
        float, Field(gt=0, le=600, description="seconds a JSON request body may take to arrive")
    ] = 10.0
    max_head_bytes: Annotated[
        int,
        Field(ge=1024, le=1 << 20, description="of a request line and its header lines"),
    ] = 16 << 10
    max_head_lines: Annotated[
        int, Field(ge=16, le=10_000, description="header lines of a request")
    ] = 100
    head_seconds: Annotated[
        float,
        Field(gt=0, le=600, description="a new connection or a begun head may take so long"),
    ] = 10.0
    write_seconds: Annotated[
        float,
        Field(gt=0, le=3600, description="a client may take none of its answer for so long"),
    ] = 30.0
    http_protocol: Literal["short-cut", "guarded", "uvicorn"] = Field(
        "short-cut",
        description="how requests are read. short-cut: corrections go directly to the scheduler, "
        "all others through uvicorn's parser within the limits above; guarded: all through that "
        "parser; uvicorn: its own protocol without those limits, so only behind a proxy that has "
        "them. The first two use private parts of uvicorn",
    )
    keep_alive: Annotated[
        int,
        Field(ge=1, le=3600, description="seconds an idle connection stays; above the clients'"),
    ] = 75
    max_connections: Annotated[
        int,
        Field(ge=1, description="open at once; one more is answered 503, but for its health"),
    ] = 5000
    max_queue_ms: Annotated[
        float,
        Field(gt=0, le=60_000, description="a correction that would wait longer is answered 503"),
    ] = 3.0
    max_gcn_mb: Annotated[
        int,
        Field(ge=1, description="memory for versions that answer; the idlest is closed for more"),
    ] = 512
    serve_replays: bool = Field(
        False, description="hand out clicks of held-out users, for simulated devices"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="training runs on")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="of the log on stderr"
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_variables(cls, values: object) -> object:
        settings = {f"{PREFIX}{name.upper()}" for name in cls.model_fields}
        for name in sorted(os.environ):
            upper = name.upper()
            is_ours = upper.startswith(PREFIX) and upper not in _CLIENTS
            if is_ours and upper not in settings and not upper.startswith(_PLATFORM):
                near = difflib.get_close_matches(upper, settings, n=1, cutoff=0.0)
                raise ValueError(f"there is no setting {name}: did you mean {near[0]}?")
        return values

    @model_validator(mode="after")
    def _database_is_known(self) -> Self:
        if self.database_url is not None:
            scheme, _, address = self.database_url.get_secret_value().partition("://")
            if scheme not in ("sqlite", "postgresql") or not address.strip("/"):
                raise ValueError(
                    "CLOUD_DATABASE_URL is sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME"
                )
        return self

    @model_validator(mode="after")
    def _token_can_be_sent(self) -> Self:
        for name, token in (("ADMIN", self.admin_token), ("DEVICE", self.device_token)):
            if token is not None and not is_plain(token.get_secret_value().encode()):
                raise ValueError(
                    f"CLOUD_{name}_TOKEN takes visible ASCII characters: nothing else can "
                    "be sent in a header"
                )
        return self

    @model_validator(mode="after")
    def _tokens_differ(self) -> Self:
        if self.admin_token is not None and self.admin_token == self.device_token:
            raise ValueError(
                "CLOUD_DEVICE_TOKEN must not be CLOUD_ADMIN_TOKEN: every device has the first"
            )
        return self

    @property
    def jobs_url(self) -> str:
        """The URL of the job database. It may contain a password, so it is never shown."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.store.resolve() / 'jobs.sqlite'}"

    @property
    def log_folder(self) -> Path:
        """The folder of click logs that jobs may name."""
        return self.data_folder or self.store / "data"

    def secrets(self) -> tuple[str, ...]:
        """Returns texts that must not be logged: tokens, database URL and password."""
        url = self.database_url.get_secret_value() if self.database_url else ""
        password = url.partition("://")[2].rpartition("@")[0].partition(":")[2]
        tokens = [
            token.get_secret_value() for token in (self.admin_token, self.device_token) if token
        ]
        return tuple(text for text in (url, password, unquote(password), *tokens) if text)


def load_settings(**values: object) -> CloudSettings:
    """Reads the settings from the environment; `values` that are not None take precedence.

    Raises SettingsError, which names the variable and never shows its value.
    """
    values_given = {name: value for name, value in values.items() if value is not None}
    try:
        return CloudSettings(**values_given)  # type: ignore[arg-type]
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        variable = f"{PREFIX}{str(fault['loc'][0]).upper()}: " if fault["loc"] else ""
        raise SettingsError(variable + fault["msg"].removeprefix("Value error, ")) from None
