"""Whom the explorer answers: pages that it served itself, under a name of this machine.

A browser sends whatever a page tells it to. A page from elsewhere whose name was pointed at this
machine after it was loaded (DNS rebinding) counts as one of the server's own for a browser; what
gives it away is the ``Host`` header, which says that name. A page of another server on this
machine gives itself away by its ``Origin``.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from ipaddress import ip_address
from typing import Any

# With any port: the one that a tunnel to another machine has here is not the server's.
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", re.IGNORECASE)
_LOCAL = frozenset(("localhost", "127.0.0.1", "[::1]"))
_REFUSAL = b"The explorer answers pages of its own, under localhost, 127.0.0.1 or [::1].\n"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


def is_local(hosts: Sequence[str], origins: Sequence[str] = (), admitted: str = "") -> bool:
    """Whether a request comes from a page of this server, or from no page at all.

    Args:
        hosts: Every ``Host`` header of the request; right is one.
        origins: Every ``Origin`` header; none where no page sent it.
        admitted: The address that is served besides those of this machine alone.
    """
    found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if found is None or not _is_served(found.group(1).lower(), admitted.lower()):
        return False
    host = hosts[0].lower()
    return all(origin.lower() in (f"http://{host}", f"https://{host}") for origin in origins)


def is_everywhere(host: str) -> bool:
    """Whether an address stands for every address of this machine."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _is_served(name: str, admitted: str) -> bool:
    if is_everywhere(admitted):
        return name in _LOCAL or _is_number(name.strip("[]"))
    return name in (*_LOCAL, *((admitted, f"[{admitted}]") if admitted else ()))


def _is_number(name: str) -> bool:
    try:
        return not ip_address(name).is_unspecified
    except ValueError:
        return False


def admit_local_only(admitted: str = "") -> None:
    """Make the web server of this process refuse, from now on, whatever is not local.

    Streamlit serves by Tornado up to 1.5x and by Uvicorn since; both are told.

    Args:
        admitted: The address that is served besides those of this machine alone.

    Raises:
        RuntimeError: Neither is installed, so that nothing could be refused.
    """
    guarded = False
    if find_spec("uvicorn") is not None:
        _guard_uvicorn(admitted)
        guarded = True
    if find_spec("tornado") is not None:
        _guard_tornado(admitted)
        guarded = True
    if not guarded:
        raise RuntimeError("Streamlit's web server is unknown, so that no request can be refused")


class LocalOnly:
    """An ASGI application that hands local requests on to another one and refuses the rest."""

    def __init__(self, application: Application, admitted: str = "") -> None:
        self._application = application
        self._admitted = admitted

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request or one WebSocket, as ASGI calls it."""
        if scope["type"] not in ("http", "websocket") or is_local(
            _list_values(scope, b"host"), _list_values(scope, b"origin"), self._admitted
        ):
            await self._application(scope, receive, send)
        elif scope["type"] == "http":
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": _REFUSAL})
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1008})


def _list_values(scope: Message, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _guard_uvicorn(admitted: str) -> None:
    import uvicorn

    load = uvicorn.Config.load

    def load_guarded(config: uvicorn.Config) -> None:
        load(config)
        config.loaded_app = LocalOnly(config.loaded_app, admitted)

    uvicorn.Config.load = load_guarded  # type: ignore[method-assign, assignment]


def _guard_tornado(admitted: str) -> None:
    # Later releases of Streamlit bring none, which type checkers would miss.
    web: Any = import_module("tornado.web")
    find_handler = web.Application.find_handler

    def find_guarded(application: Any, request: Any, **options: Any) -> Any:
        headers = request.headers
        if is_local(headers.get_list("Host"), headers.get_list("Origin"), admitted):
            return find_handler(application, request, **options)
        refusal = {"status_code": 403}
        return application.get_handler_delegate(request, web.ErrorHandler, refusal)

    web.Application.find_handler = find_guarded
