"""The explorer's server: what it runs and reads, whom it answers, and how it ends."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.explorer import serve
from app.explorer.launch import read_arguments
from app.explorer.local_requests import admit_local_only, is_local
from tests.app.conftest import Command
from tests.toys.explored_runs import write_run

ROOT = Path(__file__).resolve().parents[2]
# What Streamlit, its server or our page imports, some of it where it is installed only.
SHADOWS = ("streamlit", "uvicorn", "starlette", "uvloop", "orjson", "page", "markup", "altair")
WEBSOCKET = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}",
)  # fmt: skip


@dataclass(frozen=True)
class Served:
    """A server that a user started from a directory with files of somebody else."""

    process: subprocess.Popen[bytes]
    port: int
    elsewhere: Path

    def ask(self, path: str, *headers: str) -> int:
        """The status of the answer to a request with these headers and no others."""
        request = f"GET {path} HTTP/1.1\r\n" + "".join(f"{line}\r\n" for line in headers) + "\r\n"
        with socket.create_connection(("localhost", self.port), timeout=20) as connection:
            connection.sendall(request.encode())
            return int(connection.recv(64).split()[1])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write_run(elsewhere / "runs" / "digits-run")
    for name in SHADOWS:
        (elsewhere / f"{name}.py").write_text("open('executed', 'a').write(__name__)\n")
    (elsewhere / "app").mkdir()
    (elsewhere / "app" / "__init__.py").write_text("open('executed', 'a').write('app')\n")
    (elsewhere / ".streamlit").mkdir()
    (elsewhere / ".streamlit" / "config.toml").write_text(
        '[server]\nenableCORS = false\nbaseUrlPath = "moved"\n[logger]\nlevel = "nonsense"\n'
    )
    (elsewhere / ".streamlit" / "secrets.toml").write_text("not toml\n")
    port = find_free_port()
    # As the console script does, whose own folder is first on the path.
    start = (
        "import os, sys; sys.path[:] = [p for p in sys.path if p not in ('', os.getcwd())]; "
        "from app.commands.main import main; "
        f"sys.argv = ['supernet', 'explore', '--headless', '--port', '{port}']; main()"
    )
    with (elsewhere / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", start], stdout=log, stderr=log, cwd=elsewhere,
            env={**os.environ, "PYTHONPATH": f"{os.pathsep}{ROOT}"},
        )  # fmt: skip
    try:
        wait_until_healthy(process, port)
        yield Served(process, port, elsewhere)
    finally:
        process.kill()
        process.wait(timeout=20)


def find_free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_until_healthy(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended by itself"
        try:
            with urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail("the server did not answer within a minute")


def test_only_pages_of_this_server_are_answered(served: Served) -> None:
    here = f"localhost:{served.port}"
    for path, right, more in (
        ("/", 200, ()),
        ("/_stcore/host-config", 200, ()),
        ("/_stcore/stream", 101, WEBSOCKET),
    ):
        for host in (here, f"127.0.0.1:{served.port}", f"[::1]:{served.port}", "localhost:9000"):
            assert served.ask(path, f"Host: {host}", *more) == right
            assert served.ask(path, f"Host: {host}", f"Origin: http://{host}", *more) == right
        for host in ("evil.example", f"evil.example:{served.port}", "localhost.evil.example",
                     "0.0.0.0"):  # fmt: skip
            assert served.ask(path, f"Host: {host}", *more) == 403
            assert served.ask(path, f"Host: {host}", f"Origin: http://{host}", *more) == 403
        for origin in ("http://evil.example", "http://localhost:9999", "null"):
            assert served.ask(path, f"Host: {here}", f"Origin: {origin}", *more) == 403


def test_nothing_of_the_working_directory_is_run_or_read(served: Served) -> None:
    assert not (served.elsewhere / "executed").exists()
    log = (served.elsewhere / "server.log").read_text()
    assert f"http://localhost:{served.port}" in log
    assert "moved" not in log, "configuration of the working directory was read"
    assert "secrets" not in log
    found = Path(f"/proc/{served.process.pid}/cwd")
    if found.exists():
        assert found.resolve() == Path(serve.FOLDER)


@pytest.mark.skipif(os.name != "posix", reason="a process replaces itself on POSIX alone")
def test_the_command_becomes_the_server_and_ends_with_it(served: Served) -> None:
    command = Path(f"/proc/{served.process.pid}/cmdline")
    if command.exists():
        assert b"serve.py" in command.read_bytes()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(timeout=20) == 0
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", served.port))


def test_a_port_in_use_is_refused_in_a_sentence(command: Command, tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = command("explore", tmp_path / "run", "--headless", "--port", port)
    assert result.code == 2
    assert result.err.splitlines() == [
        f"error: port {port} is in use by another program; choose another --port, or leave it out "
        "for the next free one"
    ]


@pytest.mark.parametrize(
    ("hosts", "origins", "local"),
    [
        (["localhost"], [], True),
        (["LocalHost:8501"], ["http://localhost:8501"], True),
        (["[::1]:8501"], ["https://[::1]:8501"], True),
        ([], [], False),
        (["localhost", "localhost"], [], False),
        (["localhost:"], [], False),
        (["localhost:8501\n"], [], False),
        (["user@localhost"], [], False),
        (["127.0.0.1.evil.example"], [], False),
        (["127x0x0x1"], [], False),
        (["localhost:8501"], ["http://localhost"], False),
        (["localhost:8501"], ["http://127.0.0.1:8501"], False),
        (["localhost:8501"], ["http://localhost:8501", "http://evil.example"], False),
    ],
)
def test_which_requests_are_local(hosts: list[str], origins: list[str], local: bool) -> None:
    assert is_local(hosts, origins) is local


@pytest.mark.parametrize(
    ("admitted", "host", "local"),
    [
        ("192.0.2.7", "192.0.2.7:8501", True),
        ("192.0.2.7", "localhost:8501", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("192.0.2.7", "evil.example", False),
        ("box.example", "Box.Example:8501", True),
        ("box.example", "evil.example", False),
        ("2001:db8::1", "[2001:db8::1]:8501", True),
        ("0.0.0.0", "192.0.2.8:8501", True),
        ("::", "[2001:db8::1]", True),
        # Only a name can be pointed at another machine after its page was loaded.
        ("0.0.0.0", "evil.example", False),
        ("0.0.0.0", "0.0.0.0", False),
        ("", "192.0.2.7", False),
    ],
)
def test_an_address_is_served_once_it_is_asked_for(admitted: str, host: str, local: bool) -> None:
    assert is_local([host], [], admitted) is local
    assert is_local([host], [f"http://{host}"], admitted) is local
    assert not is_local([host], ["http://evil.example"], admitted)


def test_other_machines_are_served_on_request_and_with_a_warning(
    command: Command, tmp_path: Path
) -> None:
    write_run(tmp_path / "run")
    alone = command("explore", tmp_path / "run", "--json")
    assert (alone.code, alone.err) == (0, "")
    assert "--server.address=localhost" in json.loads(alone.out)["command"]
    result = command("explore", tmp_path / "run", "--host", "0.0.0.0", "--json")
    assert result.code == 0
    assert result.err.startswith("warning: with --host 0.0.0.0 everybody who reaches this machine")
    told = json.loads(result.out)["command"]
    assert "--server.address=0.0.0.0" in told
    assert "--server.enableCORS=true" in told
    assert "--server.enableXsrfProtection=true" in told
    assert read_arguments(told[told.index("--") + 1 :]).admitted == "0.0.0.0"
    for wrong in ("192.0.2.7", "no such host"):
        result = command("explore", tmp_path / "run", "--host", wrong)
        assert result.code == 2
        assert result.err.startswith(f"error: host {wrong!r} is no address of this machine; use")


def test_tornado_refuses_as_uvicorn_does(monkeypatch: pytest.MonkeyPatch) -> None:
    web = pytest.importorskip("tornado.web", reason="Streamlit serves without Tornado here")
    httputil = pytest.importorskip("tornado.httputil")
    uvicorn = pytest.importorskip("uvicorn")
    monkeypatch.setattr(web.Application, "find_handler", web.Application.find_handler)
    monkeypatch.setattr(uvicorn.Config, "load", uvicorn.Config.load)
    admit_local_only()
    served = web.Application([("/", web.RequestHandler)])
    for host, handler in (("localhost", web.RequestHandler), ("evil.example", web.ErrorHandler)):
        request = httputil.HTTPServerRequest(
            "GET", "/", headers=httputil.HTTPHeaders({"Host": host}), connection=object()
        )
        assert served.find_handler(request).handler_class is handler


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        ("", ["installed"]),
        ("{here}", ["{here}", "installed"]),
        (":mine", ["mine", "installed"]),
        (":{here}", ["{here}", "installed"]),
    ],
)
def test_the_path_keeps_what_the_user_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str, kept: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    entries = [entry.format(here=tmp_path) for entry in named.split(":")] if named else []
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(entries))
    # As Python makes it of a script's folder, PYTHONPATH and the installation.
    given = list(dict.fromkeys(os.path.abspath(entry) for entry in entries))
    monkeypatch.setattr(sys, "path", [serve.FOLDER, *given, serve.ROOT, "installed"])
    serve.make_path_safe()
    wanted = [k.format(here=tmp_path) if k != "mine" else str(tmp_path / "mine") for k in kept]
    assert [entry for entry in sys.path if entry != serve.ROOT] == wanted
