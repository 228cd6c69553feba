"""What MLflow loads wherever this package is installed, so that a workspace's state has no address of its own.

A store calls the files of runs and models ``mlflow-artifacts:/...``, wherever they are. A server has them in its
``--artifacts-destination``; without a server MLflow refuses such names, and here they lie beside the SQLite file.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import mlflow
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

from regionclip.tracking.store import ARTIFACTS, DEFAULT, sqlite_file


def artifact_repository(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> ArtifactRepository:
    """Open ``mlflow-artifacts:/PATH``: beside the file where the store is SQLite, else at the server."""
    uri = tracking_uri or mlflow.get_tracking_uri()
    if (file := sqlite_file(uri)) is None:
        return MlflowArtifactsRepository(artifact_uri, uri, registry_uri)
    place = file.parent / ARTIFACTS / urlsplit(artifact_uri).path.lstrip("/")
    return LocalArtifactRepository(place.as_uri(), uri, registry_uri)


# MLflow's own default, mlflow.db, would be a second store beside the workspace's.
if sqlite_file(DEFAULT).is_file():
    os.environ.setdefault("MLFLOW_TRACKING_URI", DEFAULT)
