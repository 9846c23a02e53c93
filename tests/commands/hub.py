"""A hub on loopback that holds one small repository, in the form in which huggingface_hub asks for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

__all__ = ["COMMIT", "Hub", "serving"]

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(slots=True, kw_only=True)
class Hub:
    """`files` by name; those ending in .safetensors are told with sha256, the rest with git's hash.

    A download of `breaks` stops after half of it, once. `lies` are sent with other content of the same size.
    `refuses` is the status that whoever asks gets. It knows `revision`, and COMMIT.
    `asked` are the downloads, with the Range that was wanted.
    """

    repository: str
    files: dict[str, bytes]
    breaks: str | None = None
    refuses: int | None = None
    revision: str = "refs/pr/70"
    lies: set[str] = field(default_factory=set)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def info(self) -> dict[str, object]:
        siblings = []
        for name, content in self.files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": blob}
            if name.endswith(".safetensors"):
                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        return {"id": self.repository, "sha": COMMIT, "siblings": siblings, "cardData": {"license": "mit"}, "tags": []}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Answers on a free port until the block ends; `hub.url` is its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if hub.refuses is not None:
                self.answer(hub.refuses, b"", {})
                return
            if path in (f"/api/models/{hub.repository}/revision/{rev}" for rev in (hub.revision, COMMIT)):
                self.answer(200, json.dumps(hub.info()).encode(), {"Content-Type": "application/json"})
                return
            name = path.removeprefix(f"/{hub.repository}/resolve/{COMMIT}/")
            if name not in hub.files:
                self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
                return
            content = hub.files[name]
            tag = f'"{hashlib.sha256(content).hexdigest()}"'
            if name in hub.lies:
                content = bytes(len(content))
            wanted = self.headers.get("Range")
            first = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
            headers = {"ETag": tag, "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if wanted:
                headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            if self.command == "GET":
                hub.asked.append((name, wanted))
                if hub.breaks == name:
                    hub.breaks = None
                    self.answer(200, content[: len(content) // 2], headers, length=len(content))
                    self.close_connection = True
                    return
            self.answer(206 if wanted else 200, content[first:], headers)

        def answer(self, status: int, body: bytes, headers: dict[str, str], length: int | None = None) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
