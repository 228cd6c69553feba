"""Where MLflow keeps runs: a server given by the environment, else a SQLite file in mlruns/; telemetry off."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from regionclip.errors import InputError, redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient

STATE = Path("mlruns")
# All stages share one experiment, because MLflow's UI nests child runs only within an experiment;
# the tags dvc.stage and profile tell them apart.
EXPERIMENT = "regionclip"
_SQLITE = "sqlite:///"
_PROBE = 2.0  # seconds


def tracking_uri() -> str:
    """Return ``MLFLOW_TRACKING_URI``, else mlruns/mlflow.db; a SQLite path is made absolute.

    Raises:
        InputError: The address of a server holds a password, which MLflow would show in messages and links.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{STATE / 'mlflow.db'}"
    if uri.startswith(("http://", "https://")) and redacted(uri) != uri:
        mend = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, and leave them out of the address"
        raise InputError("the address holds a user or a password", key="MLFLOW_TRACKING_URI", mend=mend)
    # MLflow takes a relative path from the folder it runs in, so two programs would open two stores.
    return f"{_SQLITE}{Path(uri.removeprefix(_SQLITE)).resolve()}" if uri.startswith(_SQLITE) else uri


def connect(uri: str) -> MlflowClient:
    """Return a client that gives up on a silent server after seconds, where MLflow's default is minutes."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    from mlflow import MlflowClient  # takes more than a second

    if uri.startswith(_SQLITE):
        Path(uri.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri)


@contextmanager
def process_wide(uri: str) -> Iterator[None]:
    """Make ``uri`` the store of MLflow's fluent calls within the block; some have no counterpart in the client."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        # MLflow keeps the address in the environment too.
        mlflow.set_tracking_uri(None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


def require_answer(uri: str) -> None:
    """Ask a server whether it is there, within seconds; a client's own tries take a minute. A file is not asked.

    Raises:
        OSError: No server answers.
    """
    if not uri.startswith(("http://", "https://")):
        return
    import requests

    status = requests.get(f"{uri.rstrip('/')}/health", timeout=_PROBE).status_code
    if status >= 500:
        raise ConnectionError(f"{uri} answers with HTTP status {status}")


def experiment_id(client: MlflowClient, name: str, uri: str) -> str:
    """Return the id of an experiment; made when it is not there, with SQLite its artifacts lie beside the file."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        beside = Path(uri.removeprefix(_SQLITE)).parent / "artifacts" if uri.startswith(_SQLITE) else None
        try:
            return client.create_experiment(name, artifact_location=beside.as_uri() if beside else None)
        except MlflowException:
            # Another process made it in the meantime.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return found.experiment_id


def delivery_errors() -> tuple[type[Exception], ...]:
    """Return what MLflow's client raises when its store cannot be reached, is broken or refuses."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError
