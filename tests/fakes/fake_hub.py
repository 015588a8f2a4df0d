"""A model hub on loopback: what the hub's client asks when it writes and reads a repository."""

import base64
import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse


class FakeHub:
    """Repositories as dicts of files, and the requests that came."""

    def __init__(self):
        self.files: dict[str, dict[str, bytes]] = {}
        self.cards: dict[str, dict] = {}  # of models that are only looked up
        self.requests: list[tuple[str, str]] = []
        self.tokens: set[str | None] = set()

    @contextlib.contextmanager
    def running(self):
        """The hub's address while it serves."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def commit_of(self, repo):
        """A commit id that follows from the files."""
        content = sorted((name, data) for name, data in self.files[repo].items())
        return hashlib.sha1(repr(content).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, *args):
        pass

    def _begin(self):
        path = unquote(urlparse(self.path).path)
        self.hub.requests.append((self.command, path))
        self.hub.tokens.add(self.headers.get("Authorization"))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return [part for part in path.split("/") if part], body

    def _answer(self, data=b"", status=200, **headers):
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _missing(self, code):
        self._answer({"error": "not found"}, status=404, X_Error_Code=code)

    def do_POST(self):
        parts, body = self._begin()
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            repo = "/".join(filter(None, [asked.get("organization") or "me", asked["name"]]))
            self.hub.files.setdefault(repo, {})
            return self._answer({"url": f"http://{self.headers['Host']}/{repo}"})
        if parts[:2] == ["api", "validate-yaml"]:
            return self._answer({"errors": [], "warnings": []})
        repo, action = "/".join(parts[2:4]), parts[4]
        if repo not in self.hub.files:
            return self._missing("RepoNotFound")
        if action == "preupload":
            named = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in named]
            return self._answer({"files": modes})
        return self._commit(repo, body)

    def _commit(self, repo, body):
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                content = base64.b64decode(entry["value"]["content"])
                self.hub.files[repo][entry["value"]["path"]] = content
            elif entry["key"] == "deletedFile":
                del self.hub.files[repo][entry["value"]["path"]]
        sha = self.hub.commit_of(repo)
        url = f"http://{self.headers['Host']}/{repo}/commit/{sha}"
        self._answer({"success": True, "commitOid": sha, "commitUrl": url})

    def do_GET(self):
        parts, _ = self._begin()
        if not any(parts):  # its front page: whether it is there at all
            return self._answer({})
        if parts[0] == "api":
            repo, rest = "/".join(parts[2:4]), parts[4:]
            if repo in self.hub.cards and not rest:
                card = self.hub.cards[repo]
                return self._answer({"id": repo, "sha": "0" * 40, "cardData": card})
            if repo not in self.hub.files:
                return self._missing("RepoNotFound")
            if rest[:1] == ["tree"]:
                return self._answer([self._entry(repo, name) for name in self.hub.files[repo]])
            named = [{"rfilename": name} for name in self.hub.files[repo]]
            return self._answer({"id": repo, "sha": self.hub.commit_of(repo), "siblings": named})
        repo, name = "/".join(parts[:2]), "/".join(parts[4:])
        if name not in self.hub.files.get(repo, {}):
            return self._missing("EntryNotFound")
        data = self.hub.files[repo][name]
        self._answer(data, ETag=f'"{_oid(data)}"', X_Repo_Commit=self.hub.commit_of(repo))

    do_HEAD = do_GET  # noqa: N815

    def _entry(self, repo, name):
        data = self.hub.files[repo][name]
        return {"type": "file", "path": name, "oid": _oid(data), "size": len(data)}


def _oid(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
