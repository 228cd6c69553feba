"""The servers answer to those who have the password, and to nobody else."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from regionclip.tracking.store import connect


def test_prefect_refuses_without_the_password(prefect_api: dict[str, str]) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{prefect_api['PREFECT_API_URL']}/admin/version", timeout=10)
    assert refused.value.code == 401


def test_artifacts_go_to_s3_and_back(mlflow_uri: str, s3: dict[str, str], tmp_path: Path) -> None:
    import boto3

    client = connect(mlflow_uri)
    run = client.create_run("0")
    client.log_text(run.info.run_id, "kept", "note.txt")
    (tmp_path / "back").mkdir()
    back = client.download_artifacts(run.info.run_id, "note.txt", str(tmp_path / "back"))
    assert Path(back).read_text() == "kept"
    storage = boto3.client(
        "s3",
        endpoint_url=s3["AWS_ENDPOINT_URL"],
        aws_access_key_id=s3["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=s3["AWS_SECRET_ACCESS_KEY"],
        region_name=s3["AWS_DEFAULT_REGION"],
    )
    stored = [entry["Key"] for entry in storage.list_objects_v2(Bucket="mlflow")["Contents"]]
    assert any(run.info.run_id in key and key.endswith("note.txt") for key in stored)
