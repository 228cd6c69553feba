"""The doors of both servers: foreign hosts and origins are refused, and so is who does not log in.

Factories for uvicorn; Prefect's stands alone, because the servers' image holds no other code of ours. Prefect checks
its login itself (``PREFECT_SERVER_API_AUTH_STRING``), but no host and, unless told, no origin: any page in a browser
could call it, and read the answers too, once the page's own name resolves to the server (DNS rebinding).
"""

from __future__ import annotations

import base64
import hmac
import os
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PREFECT_HOSTS = "REGIONCLIP_PREFECT_HOSTS"
MLFLOW_HOSTS = "MLFLOW_SERVER_ALLOWED_HOSTS"  # MLflow's own
# Probes call pods by their numbers, and learn nothing but that the server is up.
_OPEN = ("/health", "/api/health", "/api/ready")


class Door:
    """An application behind a check of each request.

    Args:
        app: What is behind it.
        hosts: HOST:PORT as browsers and clients write it, with or without a scheme before, separated by commas; all
            else is refused, as host and as origin.
        login: USER:PASSWORD that every request has to bring; None where the application asks for its own.
    """

    def __init__(self, app: ASGIApp, hosts: str, login: str | None = None) -> None:
        self._app, self._login = app, login
        self._hosts = {host.strip().lower().rpartition("://")[2] for host in hosts.split(",")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        refusal = None if scope["type"] == "lifespan" or scope["path"] in _OPEN else self._refusal(Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refusal(scope, receive, send)

    def _refusal(self, headers: Headers) -> PlainTextResponse | None:
        hosts = [host.lower() for host in headers.getlist("host")]
        origins = [origin.lower().partition("://")[2] for origin in headers.getlist("origin")]
        if len(hosts) != 1 or not self._hosts.issuperset(hosts):
            return PlainTextResponse("This server is not called so.", 403)
        if not self._hosts.issuperset(origins):
            return PlainTextResponse("Pages from elsewhere may not call this server.", 403)
        if self._login is not None:
            wanted = f"Basic {base64.b64encode(self._login.encode()).decode()}"
            if not hmac.compare_digest(headers.get("authorization", "").encode(), wanted.encode()):
                return PlainTextResponse("Log in.", 401, {"WWW-Authenticate": 'Basic realm="regionclip"'})
        return None


def prefect() -> Door:
    """Return Prefect's server; called as ``$REGIONCLIP_PREFECT_HOSTS`` says."""
    from prefect.server.api.server import create_app

    if not os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):
        raise SystemExit("PREFECT_SERVER_API_AUTH_STRING is not set, so anybody could run commands on the workers")
    os.umask(0o077)  # its database holds webhooks and their key
    return Door(create_app(final=True), os.environ[PREFECT_HOSTS])


def mlflow() -> Door:
    """Return MLflow's server over ``mlruns/`` in the current folder, with the login that its clients bring."""
    from mlflow.server import constants
    from mlflow.server.handlers import initialize_backend_stores

    state, root = Path("mlruns").resolve(), "mlflow-artifacts:/"
    state.mkdir(exist_ok=True)
    store = f"sqlite:///{state / 'mlflow.db'}"
    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: store,
        constants.REGISTRY_STORE_URI_ENV_VAR: store,
        constants.ARTIFACT_ROOT_ENV_VAR: root,
        constants.ARTIFACTS_DESTINATION_ENV_VAR: str(state / "artifacts"),
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    initialize_backend_stores(store, store, root)
    from mlflow.server.fastapi_app import app

    login = ":".join(os.environ[f"MLFLOW_TRACKING_{part}"] for part in ("USERNAME", "PASSWORD"))
    return Door(app, os.environ[MLFLOW_HOSTS], login)
