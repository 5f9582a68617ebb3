"""Addresses of databases and clusters as they may be shown: without what lets people in."""

from __future__ import annotations

from collections.abc import Collection

from supernet.errors import InputError

HIDDEN = "***"


def show_storage(url: str) -> str:
    """Show the URL of a database without its password and its query, which may hold another.

    Raises:
        InputError: It cannot be read as a URL, so that nobody can say where in it the password is;
            the message does not repeat it.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
        # Whoever has an @ in the password and does not escape it has a part of it in the host.
        readable = "@" not in (parsed.host or "")
    except (ArgumentError, ValueError):
        readable = False
    if not readable:
        raise InputError(
            "the Optuna storage is no URL that SQLAlchemy reads; write one such as "
            "sqlite:///studies.db or postgresql://HOST/NAME, and %40 for an @ in a password"
        )
    if "@" in (parsed.database or "") and parsed.get_backend_name() != "sqlite":
        return f"{parsed.drivername}://{HIDDEN}"
    return parsed.set(query={}).render_as_string(hide_password=True)


def show_address(address: str) -> str:
    """Show ``HOST:PORT`` or a URL of a cluster without the user and the password before the @."""
    before, at, host = address.rpartition("@")
    scheme, slashes, _ = before.partition("://")
    return f"{scheme if slashes else ''}{slashes}{HIDDEN if at else ''}{at}{host}"


def hide_secrets(reason: str, address: str) -> str:
    """Show why an address cannot be used, unless that repeats what lets people in.

    Args:
        reason: What a library says.
        address: The address it speaks of, whole.

    Returns:
        The reason, or that it must not be shown.
    """
    told = any(secret in reason for secret in _find_secrets(address))
    return "the reason repeats the password" if told else reason


def _find_secrets(address: str) -> Collection[str]:
    from urllib.parse import unquote

    rest = address.partition("://")[2] or address
    inside, at, _ = rest.rpartition("@")
    query = rest.partition("?")[2]
    found = [inside, inside.partition(":")[2]] if at else []
    found += [pair.partition("=")[2] for pair in query.split("&")]
    if at or query:
        found.append(address)
    return {spelling for secret in found if secret for spelling in (secret, unquote(secret))}
