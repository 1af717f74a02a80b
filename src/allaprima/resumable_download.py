"""Fetch one large file over HTTP, going on where an earlier attempt or run was cut off."""

import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from allaprima.errors import InputError

CHUNK_BYTES = 1 << 18
TIMEOUT_S = 30
MAX_FAILURES = 8  # in a row without a new byte
BACKOFF_S = 1.0  # doubles with each failure
TEMPORARY = {408, 425, 429, 500, 502, 503, 504}  # HTTP status


class ConnectionDroppedError(Exception):
    """The transfer stopped for a reason that may pass."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as the server describes it."""

    url: str
    num_bytes: int
    validator: str  # ETag or date of change; "": the server tells neither


def ask(url: str) -> RemoteFile:
    """A remote file's size and version, by a HEAD request.

    Raises:
        InputError: no answer, a refusal, or an answer without the size.
    """
    try:
        with open_url(url, "HEAD") as response:
            headers = response.headers
    except ConnectionDroppedError as error:
        raise InputError(f"{url}: {error}; check the network, a proxy and the address") from error
    etag, length = headers.get("ETag", ""), headers.get("Content-Length", "")
    if not length.isdigit():
        raise InputError(f"{url}: the server does not tell the size; try another server")
    strong = etag if etag.startswith('"') else ""  # a weak one does not promise equal bytes
    return RemoteFile(url, int(length), strong or headers.get("Last-Modified", ""))


def download(
    remote: RemoteFile,
    path: Path,
    on_bytes: Callable[[int], object] = lambda num_bytes: None,
    on_trouble: Callable[[str], object] = lambda message: None,
) -> None:
    """Leave the remote file at ``path``; ``path.part`` gathers it, over several runs if need be.

    Args:
        on_bytes: told the number of bytes that are there so far.
        on_trouble: told why the connection dropped, before each further attempt.

    Raises:
        InputError: the server refuses, keeps failing, or has changed the file meanwhile.
    """
    if size_of(path) == remote.num_bytes:
        return
    part, version = part_of(path), path.with_name(path.name + ".part.version")
    told = f"{remote.num_bytes} {remote.validator}"
    if not version.exists() or version.read_text(encoding="utf-8") != told:
        part.unlink(missing_ok=True)  # of another file than the server has now
        version.write_text(told, encoding="utf-8")
    num_failures = 0
    while (start := size_of(part)) < remote.num_bytes:
        try:
            receive(remote, part, start, on_bytes)
        except ConnectionDroppedError as error:
            num_failures = 0 if size_of(part) > start else num_failures + 1
            if num_failures > MAX_FAILURES:
                raise InputError(
                    f"{remote.url}: {error}, {num_failures} times in a row; what has arrived is "
                    "kept: check the network, then run it again"
                ) from error
            on_trouble(f"{path.name}: {error}; trying again")
            time.sleep(min(60, BACKOFF_S * 2**num_failures))
    os.replace(part, path)
    version.unlink()


def part_of(path: Path) -> Path:
    """Where a file gathers until it is whole."""
    return path.with_name(path.name + ".part")


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def receive(remote: RemoteFile, part: Path, start: int, on_bytes: Callable[[int], object]) -> None:
    """Append the bytes from ``start`` on; a server that cannot tell them apart sends all anew."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    if start and remote.validator:
        headers["If-Range"] = remote.validator
    end = remote.num_bytes
    with open_url(remote.url, headers=headers) as response:
        goes_on = response.status == 206
        field = "Content-Range" if goes_on else "Content-Length"
        if response.headers[field] != (f"bytes {start}-{end - 1}/{end}" if goes_on else f"{end}"):
            raise InputError(f"{remote.url}: the file has changed on the server; run it again")
        with part.open("ab" if goes_on else "wb") as file:
            while chunk := read_chunk(response):
                file.write(chunk)
                on_bytes(file.tell())
            if file.tell() < end:
                raise ConnectionDroppedError("the connection was closed early")


def read_chunk(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionDroppedError(f"the connection broke ({error})") from error


def open_url(
    url: str, method: str = "GET", headers: dict[str, str] | None = None
) -> http.client.HTTPResponse:
    """Send a request.

    Raises:
        ConnectionDroppedError: no answer, or one that may differ later.
        InputError: the server refuses.
    """
    request = urllib.request.Request(url, headers=headers or {}, method=method)
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        told = f"the server answers {error.code} {error.reason}"
        if error.code in TEMPORARY:
            raise ConnectionDroppedError(told) from error
        raise InputError(f"{url}: {told}; check the address") from error
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionDroppedError(
            f"no connection ({getattr(error, 'reason', error)})"
        ) from error
