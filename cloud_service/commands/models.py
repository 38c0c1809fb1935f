"""`cloud-service models`. These commands use HTTP, so they work from any machine."""

import json
import re
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Column, Table

from cloud_service.commands.client import (
    DEFAULT_STORE,
    DEFAULT_URL,
    CloudClient,
    Token,
    TokenStore,
    Url,
    admin_client,
)
from cloud_service.commands.names import pick
from cloud_service.commands.output import out

app = typer.Typer(help="Model versions of a running cloud (over HTTP).", no_args_is_help=True)

Version = Annotated[
    str, typer.Argument(help="A version, its first digits, `latest`, or an alias (`production`).")
]
_SHOWN_METRIC = "corrected/all/ndcg@10"


@app.command("list", epilog="Example: cloud-service models list --url http://cloud:8000")
def list_models(
    url: Url = DEFAULT_URL,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Every version, the newest first."""
    with CloudClient(url) as cloud:
        answer = cloud.get("/v1/models")
    if as_json:
        out.print_json(data=answer)
        return
    version = Column("version", no_wrap=True)
    table = Table(
        version, "aliases", "data", "NDCG@10", "created", caption=f"NDCG@10: {_SHOWN_METRIC}"
    )
    for model in answer:
        table.add_row(*_row(model))
    out.print(table)


@app.command("show", epilog="Example: cloud-service models show production")
def show_model(
    version: Version,
    url: Url = DEFAULT_URL,
) -> None:
    """A version's manifest, as JSON."""
    with CloudClient(url) as cloud:
        exact = _exact(cloud, version)
        out.print_json(json.dumps(cloud.get(f"/v1/models/{exact}")))


@app.command("promote", epilog="Example: cloud-service models promote 8a6c1f0b9d3e5724")
def promote_model(
    version: Version,
    alias: Annotated[str, typer.Option(help="What is to point at it.")] = "production",
    url: Url = DEFAULT_URL,
    token: Token = None,
    store: TokenStore = DEFAULT_STORE,
) -> None:
    """Points `production`, or another alias, at a version."""
    with admin_client(url, token, store) as cloud:
        exact = _exact(cloud, version)
        cloud.post(f"/v1/models/{exact}/promote?alias={quote(alias, safe='')}")
    out.print(f"{alias} is version {exact}", highlight=False)


@app.command("retire", epilog="Example: cloud-service models retire 8a6c1f0b9d3e5724")
def retire_model(
    version: Version, url: Url = DEFAULT_URL, token: Token = None, store: TokenStore = DEFAULT_STORE
) -> None:
    """Ends a version's answers, for good."""
    with admin_client(url, token, store) as cloud:
        exact = _exact(cloud, version)
        cloud.post(f"/v1/models/{exact}/retire")
    out.print(f"{exact} is retired", highlight=False)


def _exact(cloud: CloudClient, text: str) -> str:
    """Resolves a short version or an alias. Raises InvalidRequest."""
    models = cloud.get("/v1/models")
    version_of: dict[str, str] = {
        alias: model["version"] for model in models for alias in model["aliases"]
    }
    if text in version_of:
        return version_of[text]
    if not re.fullmatch("[0-9a-f]{1,16}|latest", text):
        return text  # the cloud reports an unknown alias
    return pick(text, [model["version"] for model in models], "version")


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    state = "retired" if model["retired"] else ", ".join(model["aliases"])
    metric = model["metrics"].get(_SHOWN_METRIC)
    return (
        model["version"],
        state,
        model["data"] + (" (synthetic)" if model["synthetic"] else ""),
        "" if metric is None else f"{metric:.4f}",
        model["created"][:16].replace("T", " "),
    )
