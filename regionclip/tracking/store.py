"""Where MLflow keeps runs: a server given by the environment, else a SQLite file in mlruns/; telemetry off."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from regionclip.errors import InputError, redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment
    from mlflow.store.entities import PagedList

STATE = Path("mlruns")
# All stages share one experiment, because MLflow's UI nests child runs only within an experiment;
# the tags dvc.stage and profile tell them apart.
EXPERIMENT = "regionclip"
_SQLITE = "sqlite:///"
DEFAULT = f"{_SQLITE}{STATE / 'mlflow.db'}"
ARTIFACTS = "artifacts"
"""Folder beside a SQLite file that holds what the file calls ``mlflow-artifacts:/``."""

_SCHEME = "mlflow-artifacts:"
_ADDRESSES = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_PROBE = 2.0  # seconds
_LOCKED = 20.0  # seconds to wait for another process, as MLflow's store does


def tracking_uri() -> str:
    """Return ``MLFLOW_TRACKING_URI``, else mlruns/mlflow.db; a SQLite path is made absolute.

    Raises:
        InputError: The address of a server holds a password, which MLflow would show in messages and links.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT
    if uri.startswith(("http://", "https://")) and redacted(uri) != uri:
        mend = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, and leave them out of the address"
        raise InputError("the address holds a user or a password", key="MLFLOW_TRACKING_URI", mend=mend)
    # MLflow takes a relative path from the folder it runs in, so two programs would open two stores.
    return uri if (file := sqlite_file(uri)) is None else f"{_SQLITE}{file}"


def sqlite_file(uri: str) -> Path | None:
    """Return the absolute path of a SQLite store; None for a store of another kind."""
    return Path(uri.removeprefix(_SQLITE)).resolve() if uri.startswith(_SQLITE) else None


def connect(uri: str) -> MlflowClient:
    """Return a client that gives up on a silent server after seconds, where MLflow's default is minutes.

    Raises:
        InputError: A SQLite file cannot be opened, is broken, or is of another version of MLflow.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    from mlflow import MlflowClient  # takes more than a second

    if (file := sqlite_file(uri)) is None:
        return MlflowClient(tracking_uri=uri)
    from mlflow.store.artifact.artifact_repository_registry import get_registered_artifact_repositories

    from regionclip.tracking.plugin import artifact_repository

    mend = f"make {file.parent} a folder that this user may write to"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # MLflow itself would try to open it for 100 seconds.
        with closing(sqlite3.connect(file, timeout=_LOCKED)) as database:
            mend = "restore it from a copy, or move it away: a new one is made"
            database.execute("SELECT name FROM sqlite_master").fetchall()
        mend = f"use the MLflow that wrote it, or `mlflow db upgrade {quote(uri)}` if that was older, or move it away"
        # The entry point of the installed package may be an older one.
        get_registered_artifact_repositories()[_SCHEME.rstrip(":")] = artifact_repository
        return MlflowClient(tracking_uri=uri)
    except Exception as error:
        # SQLAlchemy, alembic and each of MLflow's migrations fail in their own ways, and a stage is to go on.
        problem = f"MLflow cannot use this store ({one_line(error)})"
        raise InputError(problem, file=file, mend=mend) from error


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


def all_found(search: Callable[..., PagedList], *query: Any) -> list[Any]:
    """Return what one of a client's searches finds, page by page to the last."""
    from mlflow.utils import get_results_from_paginated_fn

    return get_results_from_paginated_fn(lambda most, page: search(*query, max_results=most, page_token=page), 1000)


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


def experiment_id(client: MlflowClient) -> str:
    """Return the id of the experiment; made when it is not there.

    The files of its runs have no address in the store, so that a copied or moved workspace keeps its own: a server
    knows where they are, and for a SQLite file `plugin` does.

    Raises:
        InputError: It was deleted.
    """
    from mlflow.exceptions import MlflowException

    file, found = sqlite_file(client.tracking_uri), client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        try:
            client.create_experiment(EXPERIMENT, artifact_location=f"{_SCHEME}/" if file else None)
        except MlflowException:
            # Another process may have made it in the meantime.
            if client.get_experiment_by_name(EXPERIMENT) is None:
                raise
    if file and not (found and found.artifact_location.startswith(_SCHEME)):
        _drop_addresses(file)
    found = found or client.get_experiment_by_name(EXPERIMENT)
    require_active(found, client.tracking_uri)
    return found.experiment_id


def require_active(experiment: Experiment, uri: str) -> None:
    """Refuse an experiment that was deleted: it takes no records until it is restored."""
    if experiment.lifecycle_stage == "deleted":
        restore = f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        mend = f"run `MLFLOW_TRACKING_URI={quote(uri)} {restore}`"
        raise InputError(f"the experiment {experiment.name} was deleted", file=uri, mend=mend)


def _drop_addresses(file: Path) -> None:
    """Replace absolute addresses of files in a new store, or in one of an older version of this package."""
    with closing(sqlite3.connect(file, timeout=_LOCKED)) as database, database:
        # MLflow makes its own experiment, Default, with the file.
        database.execute(
            f"UPDATE experiments SET artifact_location = '{_SCHEME}/0' WHERE experiment_id = 0 "
            f"AND artifact_location NOT LIKE '%:%' AND NOT EXISTS (SELECT 1 FROM runs WHERE experiment_id = 0)"
        )
        query = "SELECT artifact_location FROM experiments WHERE name = ?"
        (location,) = database.execute(query, (EXPERIMENT,)).fetchone()
        named = Path(unquote(urlsplit(location).path))
        # Others are the user's own; and a file that was copied alone still needs what lies beside the original.
        alone = named.exists() and not (file.parent / ARTIFACTS).exists()
        if not location.startswith("file:") or named.name != ARTIFACTS or alone:
            return
        database.execute(f"UPDATE experiments SET artifact_location = '{_SCHEME}/' WHERE name = ?", (EXPERIMENT,))
        for table, column in _ADDRESSES:
            database.execute(
                f"UPDATE {table} SET {column} = '{_SCHEME}' || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                (len(location) + 1, len(location) + 1, f"{location}/"),
            )


def delivery_errors() -> tuple[type[Exception], ...]:
    """Return what is raised when MLflow's store cannot be reached, is broken or refuses."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return InputError, MlflowException, SQLAlchemyError, OSError


def one_line(error: Exception) -> str:
    """Return what an error says, in one line; the pages that SQLAlchemy and servers add to theirs are cut."""
    if isinstance(error, InputError):
        return str(error)
    return " ".join(str(error).split()).split(" [SQL: ")[0][:300]
