"""A model hub on this machine: the paths and headers that huggingface_hub asks for, and the ways a real one fails.

`Hub.repos` maps org/name to {revision: {path: bytes}}; a commit is its revision's SHA-1. Failures are set at any time.
"""

from __future__ import annotations

import hashlib
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlparse

WEIGHTS = (".safetensors", ".gguf")
PIECE = 20_000  # bytes between two pauses of a slow answer


def commit_of(revision: str) -> str:
    """The commit that a branch or tag of this hub points to."""
    return hashlib.sha1(revision.encode()).hexdigest()


class Hub:
    """The server; `with Hub() as hub` starts and stops it.

    Failures: `pause` seconds after every piece of a weight file; `cut` breaks every second answer with weights in its
    middle; `gated` and `private` refuse files; `status` answers everything with that number; `only_size` changes the
    sizes that the list of files tells.
    """

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.pause, self.cut, self.gated, self.private, self.status = 0.0, False, False, False, 0
        self.told_size: int | None = None
        self.asked: list[tuple[str, str, str]] = []  # method, path, Range
        self.open = 0  # answers with weights that are being written now
        self.cuts = 0

    def __enter__(self) -> Hub:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def put(self, repo: str, files: dict[str, bytes], revision: str = "main") -> None:
        self.repos.setdefault(repo, {})[revision] = files

    def fetched(self) -> list[str]:
        """Paths in repositories whose content was asked for, once each, in order."""
        paths = [path.split("/", 5)[5] for method, path, _ in self.asked if method == "GET" and "/resolve/" in path]
        return list(dict.fromkeys(paths))

    def files_at(self, repo: str, revision: str) -> dict[str, bytes] | None:
        by_name = self.repos[repo]
        return by_name.get(revision) or {commit_of(name): files for name, files in by_name.items()}.get(revision)


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def say(self, code, body=b"", **headers):
            self.send_response(code)
            for key, value in headers.items():
                self.send_header(key.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            path = unquote(urlparse(self.path).path)
            hub.asked.append((self.command, path, self.headers.get("Range", "")))
            if hub.status:
                return self.say(hub.status)
            parts = path.strip("/").split("/")
            api = parts[:2] == ["api", "models"]
            repo = "/".join(parts[2:4] if api else parts[:2])
            if repo not in hub.repos:
                bad = "Authorization" in self.headers and hub.private
                return self.say(
                    401 if not bad else 404, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found"
                )
            if api:
                revision = "/".join(parts[5:]) if parts[4:5] == ["revision"] else "main"
                return self.listing(repo, revision)
            if parts[2] == "resolve":
                revision, name = parts[3], "/".join(parts[4:])
                return self.file(repo, revision, name)
            return self.say(404)

        def listing(self, repo, revision):
            files = hub.files_at(repo, revision)
            if files is None:
                return self.say(404, X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id")
            commit = revision if len(revision) == 40 else commit_of(revision)
            siblings = [
                {"rfilename": name, "size": hub.told_size or len(data), "blobId": "0" * 40}
                for name, data in files.items()
            ]
            body = {"id": repo, "sha": commit, "siblings": siblings, "private": False, "tags": [], "downloads": 1}
            return self.say(200, json.dumps(body).encode(), Content_Type="application/json")

        def file(self, repo, revision, name):
            files = hub.files_at(repo, revision)
            if files is None:
                return self.say(404, X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id")
            if hub.gated:
                return self.say(
                    403 if "Authorization" in self.headers else 401,
                    X_Error_Code="GatedRepo",
                    X_Error_Message="Access to this model is restricted",
                )
            if name not in files:
                return self.say(404, X_Error_Code="EntryNotFound", X_Error_Message="Entry not found")
            data, start = files[name], 0
            headers = {
                "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
                "Accept-Ranges": "bytes",
                "X-Repo-Commit": revision if len(revision) == 40 else commit_of(revision),
            }
            if asked := self.headers.get("Range"):
                start = int(asked.split("=")[1].split("-")[0])
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            body = data[start:]
            if self.command == "HEAD" or not name.endswith(WEIGHTS):
                return self.say(206 if asked else 200, body, **headers)
            self.send_response(206 if asked else 200)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            hub.cuts += 1
            breaks = hub.cut and hub.cuts % 2
            hub.open += 1
            try:
                for at in range(0, len(body), PIECE):
                    if breaks and at > len(body) // 2:
                        self.close_connection = True
                        return None
                    self.wfile.write(body[at : at + PIECE])
                    time.sleep(hub.pause)
            except OSError:  # the reader has gone
                self.close_connection = True
            finally:
                hub.open -= 1
            return None

    return Handler
