"""HTTP client sessions: requests everywhere, with one set of retries and certificates.

requests, because pystac-client already brings it and takes such a session; the standard
library has neither retries nor connection reuse over redirects.
"""

from __future__ import annotations

import ssl
from typing import Any

from .extras import optional

#: Attempts after the first, with growing pauses, at busy servers (429) and failing ones (5xx).
RETRIES = 4


def retry() -> Any:
    """Return the retries of urllib3 for every method kgsm uses."""
    from urllib3.util.retry import Retry

    return Retry(
        total=RETRIES,
        backoff_factor=0.2,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=None,
    )


def open_session(what: str, *, retries: bool = True, extra: str = "prepare") -> Any:
    """Return a requests session that also trusts the certificates of the system.

    what: needs it, for the reason.  extra: of kgsm that brings requests.
    retries: off where repeating a request is not safe; such a session also ignores proxies and
    ``.netrc``, so that credentials in its addresses go to their server only.
    MissingError where requests is not installed.
    """
    requests = optional("requests", what=what, extra=extra)
    session = requests.Session()
    session.trust_env = retries
    options = {"max_retries": retry()} if retries else {}
    session.mount("http://", requests.adapters.HTTPAdapter(**options))
    session.mount("https://", _adapter(requests)(**options))
    return session


def _adapter(requests: Any) -> Any:
    """Return the class of an adapter that adds the system's certificates to certifi's."""

    class SystemCertificates(requests.adapters.HTTPAdapter):  # type: ignore[misc]
        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, ssl_context=ssl.create_default_context(), **options)

    return SystemCertificates


def reason_of(error: BaseException) -> str:
    """Return why a request failed, without its address, which may hold a key.

    >>> reason_of(ConnectionError("http://host/?key=secret"))
    'ConnectionError'
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return str(cause.strerror)
        inner = [item for item in cause.args if isinstance(item, BaseException)]
        reason = getattr(cause, "reason", None)
        inner += [reason] if isinstance(reason, BaseException) else []
        cause = inner[0] if inner else cause.__cause__ or cause.__context__
    return type(error).__name__
