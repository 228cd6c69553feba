"""Where MLflow keeps runs: a server given by the environment, else a SQLite file in mlruns/; telemetry off."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

STATE = Path("mlruns")
_SQLITE = "sqlite:///"


def tracking_uri() -> str:
    """Return ``MLFLOW_TRACKING_URI``, else mlruns/mlflow.db; a SQLite path is made absolute."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{STATE / 'mlflow.db'}"
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
