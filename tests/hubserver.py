"""A Hugging Face hub on this machine: the part of its HTTP API that huggingface_hub calls, without its Xet storage.

Regular files come from `resolve`, large ones by a redirect to another path, as from the hub's CDN. Uploads go through
create, validate-yaml, preupload, LFS batch and commit. What is refused has the status and the headers that the hub
sends, from which huggingface_hub makes its errors.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from huggingface_hub import ModelCard

TOKEN = "hf_local"
READER = "hf_reader"
"""A token that may read private repositories, and not write."""
LARGE = 100_000
"""Files of more bytes are stored by LFS."""

Files = dict[str, bytes]


@dataclass
class Repo:
    """A repository: its commits in order, each with all files, and the commits of its branches and tags."""

    private: bool = False
    gated: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Files, *refs: str) -> str:
        """Adds a commit, to which the branches and tags point from then on. Returns its 40 digits."""
        contents = [(name, hashlib.sha256(data).hexdigest()) for name, data in sorted(files.items())]
        sha = hashlib.sha1(json.dumps([contents, list(self.commits)]).encode()).hexdigest()
        self.commits[sha] = dict(files)
        self.refs.update(dict.fromkeys(refs or ("main",), sha))
        return sha


class HubServer:
    """The hub, on a free port of this machine. A context manager.

    Attributes:
        url: for HF_ENDPOINT.
        repos: repositories by ORG/NAME.
        requests: method and path of every request so far.
        spoil: makes what is sent of a file's content out of it, by the file's name; the header still has the old size.
        before_commit: called when a commit arrives, before it is looked at.
        status: the status that every request gets instead of an answer; None if the hub works.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[str] = []
        self.spoil: dict[str, Callable[[bytes], bytes]] = {}
        self.before_commit: Callable[[], object] = lambda: None
        self.status: int | None = None
        self.stored: Files = {}  # LFS objects by their SHA-256
        server = self

        class Handler(_Handler):
            hub = server

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{port}"
        self.cdn = f"http://localhost:{port}/cdn"  # for huggingface_hub another host, which gets no token
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})

    def add(self, name: str, folder: Path, **options: Any) -> str:
        """Adds a repository with the files of a folder. Returns its commit."""
        self.repos[name] = Repo(**options)
        return self.repos[name].commit({path.name: path.read_bytes() for path in folder.iterdir()})

    def environment(self, folder: Path) -> dict[str, str]:
        """Returns the variables with which a process finds this hub, and has its cache in a folder."""
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(folder), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": ""}

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the server: from then on the hub cannot be reached."""
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{method} {path}")
        self.body = self._body()
        if self.hub.status is not None:
            return self._refuse(self.hub.status, "Broken", "the hub is down")
        for pattern, of, run in _ROUTES:
            if method in of and (found := re.fullmatch(pattern, path)):
                return run(self, *found.groups())
        return self._refuse(404, "NotFound", f"{method} {path}: not a path of this hub")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _send(self, status: int, data: bytes = b"", **headers: object) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": len(data)} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _json(self, data: object, status: int = 200) -> None:
        self._send(status, json.dumps(data).encode(), Content_Type="application/json")

    def _refuse(self, status: int, code: str, message: str, **headers: object) -> None:
        self._send(status, b"{}", X_Error_Code=code, X_Error_Message=message, **headers)

    def _token(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    def _readable(self, name: str) -> Repo | None:
        """Returns a repository; refuses the request if there is none, or the token may not read it."""
        repo, token = self.hub.repos.get(name), self._token()
        if repo is None or (repo.private and token not in (TOKEN, READER)):
            if token is None:  # as for a missing repository: the hub does not tell whether there is a private one
                self._refuse(401, "RepoNotFound", "Invalid username or password.")
            else:
                self._refuse(404, "RepoNotFound", "Repository not found")
            return None
        if repo.gated and token not in (TOKEN, READER):
            self._refuse(401, "GatedRepo", "Access to this model is restricted.")
            return None
        return repo

    def _writable(self, name: str) -> Repo | None:
        if self._token() is None:
            return self._refuse(401, "", "Invalid username or password.")
        repo = self._readable(name)
        if repo is not None and self._token() != TOKEN:
            return self._refuse(403, "", "You don't have the required permissions")
        return repo

    def _commit_of(self, repo: Repo, revision: str) -> str | None:
        sha = repo.refs.get(revision, revision)
        if sha not in repo.commits:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    def info(self, name: str, revision: str = "main") -> None:
        if (repo := self._readable(name)) and (sha := self._commit_of(repo, revision)):
            files = [{"rfilename": file} for file in repo.commits[sha]]
            self._json({"id": name, "sha": sha, "private": repo.private, "siblings": files, "tags": []})

    def resolve(self, name: str, revision: str, file: str) -> None:
        if not (repo := self._readable(name)) or not (sha := self._commit_of(repo, revision)):
            return None
        data = repo.commits[sha].get(file)
        if data is None:
            return self._refuse(404, "EntryNotFound", "Entry not found", X_Repo_Commit=sha)
        if len(data) > LARGE:
            oid = hashlib.sha256(data).hexdigest()
            self.hub.stored[oid] = data
            large = {"X_Linked_Size": len(data), "X_Linked_Etag": f'"{oid}"'}
            return self._send(302, X_Repo_Commit=sha, Location=f"{self.hub.cdn}/{oid}/{file}", **large)
        return self._content(file, data, X_Repo_Commit=sha, ETag=f'"{_git_sha1(data)}"')

    def cdn(self, oid: str, file: str) -> None:
        if self._token() is not None:
            return self._refuse(400, "", "a token was sent to another host")
        return self._content(file, self.hub.stored[oid])

    def _content(self, file: str, data: bytes, **headers: object) -> None:
        start = int(re.sub(r"\D", "", self.headers.get("Range", "0")) or 0)
        status = 206 if start else 200
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if self.command == "GET" and file in self.hub.spoil:
            sent = self.hub.spoil[file](data)[start:]
            self.close_connection = len(sent) < len(data) - start
            headers["Content_Length"] = len(data) - start
            return self._send(status, sent, **headers)
        return self._send(status, data[start:], **headers)

    def create(self) -> None:
        if self._token() is None:
            return self._refuse(401, "", "Invalid username or password.")
        if self._token() != TOKEN:
            return self._refuse(403, "", "You don't have the rights to create a model under this namespace")
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        url = {"url": f"{self.hub.url}/{name}"}
        if name in self.hub.repos:
            return self._json(url | {"error": "You already created this model repo"}, 409)
        self.hub.repos[name] = Repo(private=asked.get("visibility") == "private")
        self.hub.repos[name].commit({".gitattributes": b"*.tflite filter=lfs\n"})
        return self._json(url)

    def validate_yaml(self) -> None:
        try:
            data = ModelCard(json.loads(self.body)["content"]).data
            problem = "" if data.license else '"license" is required'
        except Exception as error:
            problem = str(error)
        errors = [{"message": problem}] if problem else []
        self._json({"errors": errors, "warnings": []}, 400 if problem else 200)

    def preupload(self, name: str, revision: str) -> None:
        if repo := self._writable(name):
            there = repo.commits[repo.refs[revision]]
            files = []
            for file in json.loads(self.body)["files"]:
                large, path = file["size"] > LARGE, file["path"]
                old = there.get(path)
                oid = None if old is None else hashlib.sha256(old).hexdigest() if large else _git_sha1(old)
                mode = "lfs" if large else "regular"
                files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
            self._json({"files": files})

    def lfs_batch(self, name: str) -> None:
        if self._writable(name):
            objects = []
            for of in json.loads(self.body)["objects"]:
                lfs = f"{self.hub.url}/lfs"
                actions = {"upload": {"href": f"{lfs}/{of['oid']}"}, "verify": {"href": lfs}}
                objects.append(of if of["oid"] in self.hub.stored else of | {"actions": actions})
            self._json({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self._refuse(400, "", "wrong content")
        self.hub.stored[oid] = self.body
        return self._send(200)

    def lfs_verify(self) -> None:
        of = json.loads(self.body)
        there = len(self.hub.stored.get(of["oid"], b"")) == of["size"]
        return self._json({}) if there else self._refuse(404, "", "not uploaded")

    def commit(self, name: str, revision: str) -> None:
        if not (repo := self._writable(name)):
            return None
        self.hub.before_commit()
        lines = [json.loads(line) for line in self.body.splitlines()]
        files = dict(repo.commits[repo.refs[revision]])
        for line in lines:
            key, value = line["key"], line["value"]
            if key == "header":
                if value.get("parentCommit", repo.refs[revision]) != repo.refs[revision]:
                    return self._refuse(412, "", "A commit has happened since. Please refresh and try again.")
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            else:
                return self._refuse(400, "", f"unknown operation {key}")
        sha = repo.commit(files, revision)
        return self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "commitOid": sha})


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES: list[tuple[str, tuple[str, ...], Callable[..., None]]] = [
    (rf"/api/models/{_NAME}", ("GET",), _Handler.info),
    (rf"/api/models/{_NAME}/revision/(.+)", ("GET",), _Handler.info),
    (rf"/api/models/{_NAME}/preupload/(.+)", ("POST",), _Handler.preupload),
    (rf"/api/models/{_NAME}/commit/(.+)", ("POST",), _Handler.commit),
    (r"/api/repos/create", ("POST",), _Handler.create),
    (r"/api/validate-yaml", ("POST",), _Handler.validate_yaml),
    (rf"/{_NAME}/resolve/([^/]+)/(.+)", ("GET", "HEAD"), _Handler.resolve),
    (r"/cdn/(\w+)/(.+)", ("GET",), _Handler.cdn),
    (rf"/{_NAME}\.git/info/lfs/objects/batch", ("POST",), _Handler.lfs_batch),
    (r"/lfs/(\w+)", ("PUT",), _Handler.lfs_put),
    (r"/lfs", ("POST",), _Handler.lfs_verify),
]
