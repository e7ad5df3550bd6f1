"""A model hub on this machine, as far as the official client needs one: repositories, large files, commits, downloads.

Requests and answers have the shapes of the public hub; `faults` make it misbehave. Nothing here is asked by the package itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c0ffee00" * 5


@dataclass
class Hub:
    """What the hub holds and was told."""

    url: str = ""
    repositories: dict[str, bool] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    faults: set[str] = field(default_factory=set)


def _mode(path: str) -> str:
    return "lfs" if path.endswith(".safetensors") else "regular"


class Answers(BaseHTTPRequestHandler):
    """One connection to the hub that `held` is."""

    held: Hub

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def give(self, status: int, body: Any = b"", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_POST(self) -> None:
        data = self.body()
        self.held.tokens.add(str(self.headers.get("authorization")))
        if self.path == "/api/repos/create":
            asked = json.loads(data)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            if "forbidden" in self.held.faults:
                return self.give(403, {"error": f"no right to write with {self.headers.get('authorization')}"})
            if name in self.held.repositories:
                return self.give(409, {"error": "You already created this model repo"})
            self.held.repositories[name] = bool(asked.get("private", asked.get("visibility") == "private"))
            return self.give(200, {"url": f"{self.held.url}/{name}"})
        if self.path == "/api/validate-yaml":
            return self.give(200, {"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            files = json.loads(data)["files"]
            mode = [{"path": one["path"], "uploadMode": _mode(one["path"]), "shouldIgnore": False} for one in files]
            return self.give(200, {"files": mode})
        if self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {"oid": one["oid"], "size": one["size"], "authenticated": True, "actions": {"upload": {"href": f"{self.held.url}/objects/{one['oid']}"}}}
                for one in json.loads(data)["objects"]
            ]  # fmt: skip
            return self.give(200, {"transfer": "basic", "objects": objects})
        if "/commit/" in self.path:
            return self.commit(data)
        return self.give(404, {"error": "not found"})

    def commit(self, data: bytes) -> None:
        if "full" in self.held.faults:
            return self.give(507, {"error": "no room"})
        for line in data.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                self.held.commits.append(value["summary"])
            elif entry["key"] == "file":
                self.held.files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                self.held.files[value["path"]] = self.held.objects[value["oid"]]
        if "spoils" in self.held.faults:
            self.held.files["config.json"] = self.held.files["config.json"] + b" "
        return self.give(
            200,
            {
                "commitUrl": f"{self.held.url}/owner/tuned/commit/{COMMIT}",
                "commitOid": COMMIT,
                "hookOutput": "",
                "pullRequestUrl": None,
            },
        )

    def do_PUT(self) -> None:
        self.held.objects[self.path.rsplit("/", 1)[-1]] = self.body()
        self.give(200)

    def do_DELETE(self) -> None:
        asked = json.loads(self.body())
        self.held.deleted.append(f"{asked.get('organization')}/{asked['name']}")
        self.give(200, {})

    def do_GET(self) -> None:
        if "/resolve/" in self.path:
            name = self.path.split("/resolve/", 1)[1].split("/", 1)[1]
            data = self.held.files.get(name)
            if data is None:
                return self.give(404, {"error": "not found"}, X_Error_Code="EntryNotFound")
            return self.give(200, data, ETag=f'"{hashlib.sha256(data).hexdigest()}"', X_Repo_Commit=COMMIT)
        if self.path == "/api/agent-harnesses":
            return self.give(404, {"error": "not found"})
        if self.path.startswith("/api/models/"):
            return self.give(200, {"id": "x", "sha": COMMIT, "siblings": [], "private": True})
        return self.give(200, {"name": "owner", "type": "user", "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    do_HEAD = do_GET


@contextmanager
def hub() -> Iterator[Hub]:
    """Run a hub while the block runs."""
    held = Hub()
    answers = type("AnswersOfOne", (Answers,), {"held": held})
    server = ThreadingHTTPServer(("127.0.0.1", 0), answers)
    held.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield held
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
