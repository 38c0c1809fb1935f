"""The device's client for everything except corrections: bundles and candidate lists.

These requests are not on the hot path, so they use httpx and JSON.
"""

import fcntl
import io
import re
import shutil
import ssl
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from device_client.bundle import is_version
from device_client.correction.sockets import address_of
from device_client.items import shown
from shared.bundle import (
    MANIFEST_LIMIT,
    check_file,
    check_files,
    mark_newest,
    parse_manifest,
    version_of,
)
from shared.errors import (
    BundleError,
    BundleInvalid,
    BundleTampered,
    InvalidRequest,
    RecommendationError,
)
from shared.manifest import MANIFEST_NAME, FileEntry, Manifest
from shared.problems import Problem
from shared.proxies import proxy_for
from shared.reasons import is_refusal, reason_of_call
from shared.whole_file import put_in_place, sync, write_durable

BATCH = 256
"""Number of candidate lists per request."""
HISTORY = 10
"""Number of latest clicks of a user that the cloud's retrieval reads."""
ALIAS_PATTERN = r"[a-z0-9][a-z0-9._-]{0,63}"
"""Pattern of an alias of a version, such as `production`."""
_REPLAY_LIMIT = 1 << 30
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)


class CloudError(RecommendationError):
    """The cloud could not be reached or refused the request; the message says why."""

    code = "cloud"
    title = "The cloud did not answer as hoped"


class Cloud:
    """Client of the cloud at `url` for everything off the hot path. Methods raise CloudError.

    Uses the environment's proxy for `url`, if any (`shared.proxies`). Raises ValueError if the URL
    is invalid and UnusableProxy if the proxy's address cannot be used.
    """

    def __init__(self, url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        self._address = address_of(url)
        self._proxy = None if transport else proxy_for(url)
        self._http = httpx.Client(
            base_url=self.url,
            timeout=_TIMEOUT,
            transport=transport,
            trust_env=False,
            proxy=self._proxy.url if self._proxy else None,
            # The certificates that corrections are checked with, too.
            verify=ssl.create_default_context() if self._address.secure else False,
        )

    def __enter__(self) -> "Cloud":
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.close()

    def production(self) -> str:
        """The version in use."""
        return version_of(self._get("/v1/models/production", MANIFEST_LIMIT))

    def pull(
        self,
        folder: Path,
        version: str = "production",
        progress: Callable[[str, int, int], None] = lambda name, done, size: None,
    ) -> Path:
        """Downloads a bundle into `folder`/VERSION, checks it, and returns that path.

        `version` is a version, or an alias of the cloud's, such as `production`. What is there
        already is kept, and a download that was cut off goes on where it was; the
        bundle appears under its name only when it is whole. `progress` gets a file's name, and
        bytes done and in all. Raises CloudError or a BundleError.
        """
        exact = is_version(version)
        if not exact and not re.fullmatch(ALIAS_PATTERN, version):
            raise InvalidRequest(
                f"a model is named by its version, 16 hex digits, or by an alias such as "
                f"`production` (a-z, 0-9, '.', '_', '-'); got {shown(version)}"
            )
        raw = self._get(f"/v1/models/{version}", MANIFEST_LIMIT)
        manifest, digest = parse_manifest(raw), version_of(raw)
        if exact and version != digest:
            raise BundleTampered(f"asked for version {version}, the manifest sent is of {digest}")
        target, draft = folder / digest, folder / f".partial-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f".lock-{digest}").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be pulling the same
            if not self._is_whole(target, manifest, raw):
                self._fetch(digest, manifest, raw, draft, target, progress)
        return target

    def _fetch(
        self,
        digest: str,
        manifest: Manifest,
        raw: bytes,
        draft: Path,
        target: Path,
        progress: Callable[[str, int, int], None],
    ) -> None:
        draft.mkdir(parents=True, exist_ok=True)
        for entry in manifest.device_files():
            self._download(digest, entry, draft / entry.name, progress)
        write_durable(draft / MANIFEST_NAME, raw)
        mark_newest(draft, (f for f in draft.parent.iterdir() if not f.name.startswith(".")))
        shutil.rmtree(target, ignore_errors=True)  # damaged, or it would have been taken above
        sync(draft)
        put_in_place(draft, target)

    def candidate_rows(
        self,
        version: str,
        histories: Sequence[Sequence[int]],
        count: int,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[NDArray[np.int64]]:
        """A candidate list (at most `count` rows of the item table) for each history of rows.

        The cloud looks at the last `HISTORY` clicks of each. `progress` gets lists done and in
        all.
        """
        digest: list[NDArray[np.int64]] = []
        for at in range(0, len(histories), BATCH):
            rows = [list(history) for history in histories[at : at + BATCH]]
            digest += self._lists(version, {"rows": rows, "count": count})
            progress(len(digest), len(histories))
        return digest

    def replay(self, version: str) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The clicks of a version's held-out users: rows of items (flat), offsets (users + 1)."""
        raw = self._get(f"/v1/models/{version}/replay", _REPLAY_LIMIT)
        try:
            with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
                return arrays["items"], arrays["offsets"]
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise CloudError(f"the replay of {version} cannot be read: {error}") from error

    def _download(
        self,
        version: str,
        entry: FileEntry,
        path: Path,
        progress: Callable[[str, int, int], None],
    ) -> None:
        have = path.stat().st_size if path.exists() else 0
        if have >= entry.size:
            try:
                check_file(path, entry)
                return
            except BundleError:
                have = 0
        headers = {"Range": f"bytes={have}-", "If-Range": f'"{entry.sha256}"'} if have else {}
        url = f"/v1/models/{version}/files/{entry.name}"
        with self._stream("GET", url, headers=headers) as answer:
            mode = "ab" if answer.status_code == httpx.codes.PARTIAL_CONTENT else "wb"
            done = have if mode == "ab" else 0
            with path.open(mode) as file:
                for chunk in answer.iter_bytes():
                    done += len(chunk)
                    if done > entry.size:
                        raise BundleInvalid(f"{entry.name} is longer than its manifest says")
                    file.write(chunk)
                    progress(entry.name, done, entry.size)
        check_file(path, entry)

    @staticmethod
    def _is_whole(folder: Path, manifest: Manifest, raw: bytes) -> bool:
        try:
            check_files(folder, manifest, "device")
            return (folder / MANIFEST_NAME).read_bytes() == raw
        except (BundleError, OSError):
            return False

    def _get(self, path: str, limit: int) -> bytes:
        with self._stream("GET", path) as answer:
            chunks, size = [], 0
            for chunk in answer.iter_bytes():
                size += len(chunk)
                if size > limit:
                    raise CloudError(f"{path} is larger than {limit:,} bytes")
                chunks.append(chunk)
        return b"".join(chunks)

    def _lists(self, version: str, body: object) -> list[NDArray[np.int64]]:
        path = f"/v1/models/{version}/candidates:batch"
        with self._stream("POST", path, json=body) as answer:
            answer.read()
        try:
            return [np.array(rows_of_list, np.int64) for rows_of_list in answer.json()["rows"]]
        except (ValueError, KeyError, TypeError) as error:
            raise CloudError(f"{answer.request.url} gave no candidate lists") from error

    @contextmanager
    def _stream(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        """Yields a successful answer. Raises CloudError for an error or a broken connection."""
        try:
            with self._http.stream(method, path, **options) as answer:
                if answer.is_error:
                    answer.read()
                    raise CloudError(self._refusal(answer))
                yield answer
        except httpx.HTTPError as error:
            raise CloudError(self._unreachable(error)) from error

    @property
    def _proxy_note(self) -> str:
        return f" by way of the proxy {self._proxy}" if self._proxy else ""

    def _unreachable(self, error: httpx.HTTPError) -> str:
        peer = self._proxy or self._address
        reason = reason_of_call(error, peer.host, peer.port)
        advice = "is `cloud-service serve` running there?"
        if self._proxy or not is_refusal(error):
            advice = f"check {'the proxy and ' if self._proxy else ''}the cloud's address"
        return f"no cloud at {self.url}{self._proxy_note} ({reason}): {advice}"

    def _refusal(self, answer: httpx.Response) -> str:
        try:
            problem = Problem.model_validate_json(answer.content)
        except ValueError:
            return f"{answer.request.url}{self._proxy_note} answered {answer.status_code}"
        return f"{problem.title} ({problem.code}, {problem.status}): {problem.detail}"
