"""What the server must not do, whatever is sent: bad input, strangers, slow and greedy clients. Each fault is tried, over a real socket."""

from __future__ import annotations

import base64
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from burnish.serve.guard import host_name
from burnish.serve.settings import Settings, hash_of
from serving import Server, offered, running
from stub import make_stub

KEY = "sk-burnish-canary-0123456789"
HELLO: Any = [{"role": "user", "content": "the user"}]
SMALL = Settings(
    dtype="float32",
    rows=2,
    queue=4,
    body_bytes=20_000,
    upload_bytes=40_000,
    body_seconds=0.6,
    head_seconds=0.6,
    header_bytes=4096,
    max_tokens=400,
    drain_seconds=5,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stub(tmp_path_factory.mktemp("guard") / "base")


@pytest.fixture(scope="module")
def server(base: Path) -> Iterator[Server]:
    with running(offered(SMALL, base=base)) as found:
        yield found


@pytest.fixture(scope="module")
def locked(base: Path) -> Iterator[Server]:
    """A server that asks for a key, as one does that others can reach."""
    with running(offered(replace(SMALL, key_hash=hash_of(KEY)), base=base)) as found:
        yield found


def ask(server: Server, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], Any]:
    """Send one request as it is written, and return status, headers and body."""
    given = {"host": f"127.0.0.1:{server.port}", "connection": "close", **({"content-length": str(len(body))} if body else {})}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
    found = server.raw(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)
    top, _, rest = found.partition(b"\r\n\r\n")
    first, *lines = top.decode("latin-1").split("\r\n")
    told = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    try:
        return int(first.split()[1]), told, json.loads(rest)
    except (ValueError, IndexError):
        return int(first.split()[1]) if first else 0, told, rest


def post(server: Server, body: Any, path: str = "/v1/chat/completions", **headers: str) -> tuple[int, dict[str, str], Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ask(server, "POST", path, raw, **{"content_type": "application/json", **headers})


# --------------------------------------------------------------------------------------------------------------------- who may ask


def test_every_route_asks_for_the_key(locked: Server) -> None:
    """By walking the app's own routes, and by spellings of a path that have led around checks elsewhere (CVE-2026-48746)."""
    app: Any = locked.uvicorn.config.app
    paths = {(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods}
    assert len(paths) >= 8
    paths |= {
        ("GET", path)
        for path in ("/openapi.json", "//v1/models", "/v1/../health", "/%2e%2e/health", "/nothing", "/", "/health?key=x")
    }
    paths |= {("OPTIONS", "/v1/models"), ("HEAD", "/health"), ("DELETE", "/v1/models/base")}
    for method, path in sorted(paths):
        status, told, body = ask(locked, method, path)
        assert status == 401, (method, path)
        assert method == "HEAD" or body["error"]["code"] == "invalid_api_key"
        assert "www-authenticate" in told


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (f"Bearer {KEY}", 200),
        (f"bearer  {KEY} ", 200),
        (f"Basic {base64.b64encode(f'anyone:{KEY}'.encode()).decode()}", 200),
        (f"Bearer {KEY}x", 401),
        (f"Bearer {KEY[:-1]}", 401),
        ("Bearer ", 401),
        (KEY, 401),
        ("Basic not-base64!", 401),
        (f"Basic {base64.b64encode(KEY.encode()).decode()}", 401),
        ("Bearer \xff\xfe", 401),
    ],
)
def test_the_key(locked: Server, given: str, status: int) -> None:
    assert ask(locked, "GET", "/v1/models", authorization=given)[0] == status


def test_two_keys_are_none(locked: Server) -> None:
    head = f"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n"
    assert b" 400 " in locked.raw(head.encode()).split(b"\r\n")[0]


def test_the_official_client_sends_the_key(locked: Server) -> None:
    assert locked.client(api_key=KEY).models.list().data[0].id == "base"
    with pytest.raises(openai.AuthenticationError, match="asks for a key"):
        locked.client(api_key="wrong").models.list()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:80", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 400),
        ("a@127.0.0.1", 400),
        ("2130706433", 403),
        ("localhost.", 200),
    ],
)
def test_the_host_is_one_that_the_server_has(server: Server, host: str, status: int) -> None:
    """A page of another name that points here (DNS rebinding) is refused."""
    assert ask(server, "GET", "/health", host=host)[0] == status


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT"])
def test_pages_of_other_origins_are_refused(server: Server, method: str) -> None:
    """Whatever the method (CVE-2026-27482: DELETE was forgotten)."""
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site"},
        {"origin": "http://127.0.0.1:1"},
    ):
        status, _, body = ask(server, method, "/v1/models", **headers)
        assert (status, body["error"]["code"]) == (403, "invalid_origin")
    own = ask(server, "GET", "/v1/models", origin=f"http://127.0.0.1:{server.port}", sec_fetch_site="same-origin")
    assert own[0] == 200 and "access-control-allow-origin" not in own[1]


def test_answers_are_safe_for_a_browser(server: Server) -> None:
    for path in ("/health", "/nothing"):
        _, told, _ = ask(server, "GET", path)
        assert (
            "default-src 'self'" in told["content-security-policy"] and "frame-ancestors 'none'" in told["content-security-policy"]
        )
        assert told["x-content-type-options"] == "nosniff" and "server" not in told


def test_host_names_are_read_in_one_way() -> None:
    assert host_name("[::1]:8000") == "::1"
    assert host_name("LocalHost:1") == "localhost"
    for odd in ("a/b", "a\\b", "a b", "a@b", "a:b", "a,b", "", "[::1", "a#b"):
        assert host_name(odd) is None


# ------------------------------------------------------------------------------------------------------------------------ how much


def test_bodies_have_a_limit(server: Server) -> None:
    """By their own word, and when they lie or say nothing: counted as they come."""
    limit = SMALL.body_bytes
    status, _, body = post(server, {"model": "base", "messages": [{"role": "user", "content": "x" * limit}]})
    assert (status, body["error"]["code"]) == (413, "body_too_large")
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = f"{limit:x}\r\n".encode() + b"x" * limit + b"\r\n"
    found = server.raw(head.encode() + chunk * 2 + b"0\r\n\r\n", seconds=3)
    assert found.startswith(b"HTTP/1.1 413"), found[:200]
    assert post(server, b"[" + b" " * (limit - 2) + b"]")[0] == 400, "as large as may be"


def test_slow_bodies_end(server: Server) -> None:
    """Others are served meanwhile, and the slow one is told."""
    found: list[bytes] = []
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    slow = threading.Thread(target=lambda: found.append(server.raw(head.encode(), seconds=5)))
    slow.start()
    assert ask(server, "GET", "/health")[0] == 200
    slow.join()
    assert found[0].startswith(b"HTTP/1.1 408"), found[0][:200]


def test_headers_that_do_not_come_end_the_connection(server: Server) -> None:
    began = time.monotonic()
    assert server.raw(b"GET /health HTTP/1.1\r\nHost: 127", seconds=5) == b""
    assert server.raw(b"", seconds=5) == b""
    assert time.monotonic() - began < 5


def test_headers_have_a_limit(server: Server) -> None:
    status, _, _ = ask(server, "GET", "/health", x_long="x" * 70_000)
    assert status in (400, 431)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"\xff\xfe", None),
        (b"[" * 9000, None),
        (b"null", "invalid_value"),
        (b"[]", "invalid_value"),
        (b'{"model": "base", "messages": [{"role": "user", "content": "\\ud800"}]}', "invalid_value"),
        (b'{"model": "\\ud800", "messages": []}', "invalid_value"),
        (b'{"model": "base", "messages": [[]]}', "invalid_value"),
        (b'{"model": "base", "temperature": NaN, "messages": [{"role": "user", "content": "x"}]}', "invalid_value"),
        (b'{"model": "base", "seed": 1e999, "messages": [{"role": "user", "content": "x"}]}', "invalid_value"),
        (b'{"model": {"$gt": ""}, "messages": []}', "invalid_value"),
    ],
)
def test_malformed_bodies(server: Server, body: bytes, code: str | None) -> None:
    status, told, found = post(server, body)
    assert status == 400 and told["content-type"].startswith("application/json")
    assert code is None or found["error"]["code"] == code
    assert set(found["error"]) == {"message", "type", "param", "code"}


def test_templates_and_other_code_in_a_request_are_text(server: Server) -> None:
    """A request cannot bring a template, and a message that looks like one is not rendered (CVE-2026-5760)."""
    status, _, found = post(server, {"model": "base", "messages": HELLO, "chat_template": "{{ 1 }}"})
    assert status == 400 and "chat_template" in found["error"]["message"]
    content = "{{ cycler.__init__.__globals__ }}{% for x in range(10**9) %}{% endfor %}"
    status, _, found = post(server, {"model": "base", "messages": [{"role": "user", "content": content}], "max_tokens": 1})
    assert status == 200 and found["usage"]["prompt_tokens"] > len(content) / 2


@pytest.mark.parametrize(
    "path",
    [
        "/../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v1/models/../../etc/passwd",
        "/v1/models/%2fetc%2fpasswd",
        "/v1/models/base%00",
        "/static/..%2f..%2fapp.py",
    ],
)
def test_no_path_leads_to_a_file(server: Server, path: str) -> None:
    status, _, found = ask(server, "GET", path)
    assert status in (400, 404) and b"root:" not in json.dumps(found if not isinstance(found, bytes) else "").encode()


def test_unknown_routes_and_methods(server: Server) -> None:
    assert ask(server, "GET", "/v1/nothing")[2]["error"]["code"] == "unknown_url"
    status, _, found = ask(server, "GET", "/v1/chat/completions")
    assert (status, found["error"]["code"]) == (405, "method_not_allowed")


# ----------------------------------------------------------------------------------------------------------------- queue and leaving


def test_a_full_queue_is_said_and_what_was_waiting_is_answered(server: Server) -> None:
    client, results = server.client(), []

    def one() -> None:
        try:
            client.chat.completions.create(model="base", messages=HELLO, max_tokens=120, n=2)
            results.append("answered")
        except openai.RateLimitError as error:
            assert error.response.headers["retry-after"] and error.code == "queue_full"
            results.append("refused")

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count("answered") >= 3 and "refused" in results and len(results) == 8
    assert server.idle()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_leaves_no_row(server: Server, stream: bool) -> None:
    """Its rows leave the flight within a few steps, long before their limit, whether they fly or wait."""
    body = json.dumps(
        {"model": "base", "messages": HELLO, "max_tokens": 400, "n": 2, "stream": stream, "temperature": 2.0, "seed": 3}
    ).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connections = []
    for _ in range(2):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(head.encode() + body)
        connections.append(connection)
    until = time.monotonic() + 5
    while server.served.engine.rows_now[0] < 2 and time.monotonic() < until:
        time.sleep(0.001)
    if stream:
        connections[0].recv(100)
    before = server.served.metrics.value("answer_tokens")
    for connection in connections:
        connection.close()
    assert server.idle()
    (line,) = server.served.engine.lines
    assert line.flight is not None and not line.flight.rows and not line.flight.noted
    assert len(line.flight.past.adapter_B) == 0  # pyright: ignore[reportAttributeAccessIssue]
    assert server.served.metrics.value("answer_tokens") - before < 4 * 400, "all of it was written for nobody"


def test_time_outs(base: Path) -> None:
    """Who waits for too long is told so by a status; who works for too long, too."""
    limits = replace(SMALL, rows=1, queue_seconds=0.4, answer_seconds=0.2)
    with running(offered(limits, base=base)) as server:
        (line,) = server.served.engine.lines
        server.served.engine.call(lambda: slow_down(server)).result()
        found: dict[str, Any] = {}

        def one(name: str) -> None:
            try:
                found[name] = server.client().chat.completions.create(model="base", messages=HELLO, max_tokens=400)
            except openai.APIStatusError as error:
                found[name] = (error.status_code, error.code)

        threads = [threading.Thread(target=one, args=(name,)) for name in ("first", "second")]
        threads[0].start()
        time.sleep(0.1)
        threads[1].start()
        for thread in threads:
            thread.join()
        assert found == {"first": (504, "timeout"), "second": (503, "timeout")}
        assert server.idle() and line.flight is not None


def slow_down(server: Server) -> None:
    """Let each step of the engine take 50 ms."""
    engine = server.served.engine
    step = engine._step
    engine._step = lambda line: (time.sleep(0.05), step(line))[1]  # type: ignore[method-assign]


def test_secrets_and_requests_stay_out_of_logs(
    locked: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Canaries in header, path, query, body and in a fault of our own: none of them is in what is logged or answered."""
    caplog.set_level(logging.DEBUG)
    auth = {"authorization": f"Bearer {KEY}"}
    post(locked, {"model": "canary-model", "messages": [{"role": "user", "content": "canary-text"}]}, **auth)
    ask(locked, "GET", "/v1/models/canary-path?canary=query", **auth)
    ask(locked, "GET", "/health", authorization="Bearer canary-wrong-key")

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("canary-fault")

    monkeypatch.setattr("burnish.serve.chat.prepare_chat", broken)
    status, _, found = post(locked, {"model": "base", "messages": [{"role": "user", "content": "canary-text"}]}, **auth)
    assert (status, found["error"]["code"]) == (500, "internal_error")
    written = "\n".join(str(record.getMessage()) + str(record.exc_info or "") for record in caplog.records) + json.dumps(found)
    assert "RuntimeError" in written, "a fault is logged by kind and place"
    assert "canary" not in written and KEY not in written


# -------------------------------------------------------------------------------------------------------------------------- fuzzing


def test_fuzzing_by_the_servers_own_description(server: Server) -> None:
    """Requests made from /openapi.json, right and wrong ones: no answer is a fault of ours, and every error has the envelope."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    for operation in [found.ok() for found in schema.get_all_operations()]:

        @given(case=operation.as_strategy() | operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
        @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate], database=None)
        def tried(case: Any) -> None:
            response = case.call(timeout=20)
            assert response.status_code < 500, (response.status_code, response.text[:300])
            if response.status_code >= 400 and case.method != "HEAD":
                assert set(response.json()["error"]) == {"message", "type", "param", "code"}

        tried()


FIELDS = st.sampled_from(["role", "content", "type", "text", "tool_calls", "function", "name"])
WORDS = st.sampled_from(["user", "assistant", "text"])
LEAVES = st.none() | st.booleans() | st.floats() | st.text(max_size=5)
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner | WORDS, max_size=4), max_leaves=8
)


@given(messages=st.lists(ANYTHING, max_size=3))
@settings(max_examples=60, deadline=None)
def test_any_messages_are_answered_or_refused(messages: list[Any]) -> None:
    from burnish.serve.messages import to_messages
    from burnish.serve.problems import ApiError

    try:
        to_messages([one for one in messages if isinstance(one, dict)])
    except ApiError as error:
        assert error.status_code == 400 and error.param
