"""The flow `promote`: the alias moves or the artifact says why not, and a refusal is no failure."""

from __future__ import annotations

import json

import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import Artifact

from flows.promote import promote
from regionclip.errors import InputError
from regionclip.tracking.store import connect

SAME = {"protocol": "COCO box AP", "split": "val", "data.md5": "d.dir", "headline": "ap50_novel,ap50_base,ap50_all,ap"}


@pytest.fixture
def registry(tmp_path, monkeypatch, prefect_server) -> MlflowClient:
    """An MLflow store with a champion and a candidate of regionclip-coco."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = connect(uri)
    client.create_registered_model("regionclip-coco")
    for alias, novel in (("champion", "0.5"), ("candidate", "0.4")):
        tags = SAME | {"ap50_novel": novel, "ap50_base": "0.6"}
        made = client.create_model_version("regionclip-coco", "file:///nowhere", tags=tags)
        client.set_registered_model_alias("regionclip-coco", alias, made.version)
    return client


def artifacts() -> list[Artifact]:
    with get_client(sync_client=True) as client:
        return [artifact for artifact in client.read_artifacts() if artifact.key == "promote-coco"]


def test_refused_and_promoted(registry) -> None:
    """A worse candidate is refused in words; a better one, named by its version, takes the alias."""
    refused = promote("coco")
    assert not refused.decision.promoted
    assert str(registry.get_model_version_by_alias("regionclip-coco", "champion").version) == "1"
    (left,) = artifacts()
    assert "version 2 was not promoted, because ap50_novel is not higher (-10.00 points)" in left.description
    row = {"number": "ap50_novel", "candidate, version 2": "0.4", "champion, version 1": "0.5"}
    assert row in json.loads(left.data)
    better = SAME | {"ap50_novel": "0.6", "ap50_base": "0.6"}
    registry.create_model_version("regionclip-coco", "file:///nowhere", tags=better)
    assert promote("coco", "3").decision.promoted
    assert str(registry.get_model_version_by_alias("regionclip-coco", "champion").version) == "3"
    assert any("version 3 is the champion now" in left.description for left in artifacts())


def test_no_candidate_fails_the_run(registry) -> None:
    """No LVIS model was registered; the run says how to make one."""
    with pytest.raises(InputError, match="regionclip register --dataset lvis"):
        promote("lvis")
