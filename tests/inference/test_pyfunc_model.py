"""From a workspace into MLflow's registry and out again: the same objects, whatever form the picture comes in."""

from __future__ import annotations

import base64
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities.model_registry import ModelVersion
from mlflow.pyfunc import PythonModelContext, scoring_server
from PIL import Image

from regionclip.errors import InputError
from regionclip.files import write_json
from regionclip.inference import RegionCLIP, registry
from regionclip.inference.pyfunc_model import RegionCLIPModel
from regionclip.inference.registry import register
from regionclip.tracking.sidecar import write_sidecar
from regionclip.tracking.store import connect, process_wide

NAMES = ["star", "red circle"]
LOW = {"threshold": 0.001}
STAGES = {
    "pretrain": {"cmd": "none", "outs": ["artifacts/pretrain"]},
    "rpn": {"cmd": "none", "outs": ["artifacts/rpn"]},
    "finetune@coco": {"cmd": "none", "deps": ["artifacts/pretrain"], "outs": ["artifacts/finetune/coco"]},
    "evaluate@coco": {
        "cmd": "none",
        "params": ["seed"],
        "deps": ["artifacts/finetune/coco", "data/sets/coco"],
        "metrics": [{"reports/metrics/evaluate_coco.json": {"cache": False}}],
    },
}
MEASURED = {"ap50_novel": 0.5, "ap50_base": 0.25, "ap50_all": None, "ap": 0.125, "protocol": "COCO box AP, generalised"}


def run(folder: Path, *command: str) -> None:
    """Run a program of this environment."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def repository(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Git and DVC repository whose dvc.lock names the workspace's files, with an MLflow store of its own."""
    folder = tmp_path_factory.mktemp("repository") / "workspace"
    shutil.copytree(workspace, folder)
    stages = dict(STAGES)
    stages["finetune"], stages["evaluate"] = (
        {"foreach": ["coco"], "do": stages.pop(f"{name}@coco")} for name in ("finetune", "evaluate")
    )
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    write_json(folder / "reports/metrics/evaluate_coco.json", {"regionclip": MEASURED})
    for stage, made_by in (("finetune@coco", "f" * 32), ("evaluate@coco", "e" * 32)):
        write_sidecar(folder / "artifacts/runs" / f"{stage.replace('@', '_')}.json", stage, made_by, 1.0, "d")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_NO_ANALYTICS", "1")
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("dvc_site")))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlruns/mlflow.db")
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
        run(folder, "dvc", "init", "--quiet")
        run(folder, "dvc", "commit", "--force", "--quiet")
        yield folder


@pytest.fixture(scope="module")
def version(repository: Path) -> ModelVersion:
    """The detector of the repository, registered."""
    parent = connect(os.environ["MLFLOW_TRACKING_URI"]).create_run("0").info.run_id
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        return register("coco", Path(), parent)


def test_version_says_what_it_is(repository: Path, version: ModelVersion) -> None:
    """Name, alias, and tags: the protocol's numbers, data, lock, profile, and the runs that made it; no pickle."""
    assert (version.name, version.aliases) == ("regionclip-coco", ["candidate"])
    deps = yaml.safe_load((repository / "dvc.lock").read_text())["stages"]["evaluate@coco"]["deps"]
    (data,) = [dep["md5"] for dep in deps if dep["path"] == "data/sets/coco"]
    wanted = {
        "ap50_novel": "0.5", "ap50_base": "0.25", "ap": "0.125", "protocol": MEASURED["protocol"], "split": "val",
        "data.md5": data, "profile": "tiny", "seed": "0", "git.sha": "none",
        "finetune.run_id": "f" * 32, "evaluate.run_id": "e" * 32,
    }  # fmt: skip
    assert version.tags.items() >= wanted.items() and "ap50_all" not in version.tags and "dvc.lock.md5" in version.tags
    client = connect(os.environ["MLFLOW_TRACKING_URI"])
    done = client.get_run(version.run_id)
    assert done.info.run_name == "register coco" and done.info.status == "FINISHED"
    assert done.data.tags["mlflow.parentRunId"] and done.data.metrics["ap50_novel"] == 0.5
    files = [path.name for path in (repository / "mlruns/artifacts/models").rglob("*") if path.is_file()]
    assert {"pyfunc_model.py", "manifest.json", "detector.pth"} <= set(files)
    assert not [name for name in files if name.endswith(".pkl")]
    assert "MLFLOW_TRACKING_URI" in os.environ and mlflow.active_run() is None


def test_the_card_goes_with_the_version(repository: Path, version: ModelVersion) -> None:
    """As README.md of the bundle, by its SHA-256, as an artifact of the run, and as the version's description."""
    client = connect(os.environ["MLFLOW_TRACKING_URI"])
    card = Path(client.download_artifacts(version.run_id, "README.md")).read_text()
    said = client.get_model_version(version.name, version.version).description
    assert card == said or card.startswith(said.partition("\n\nThe whole card")[0])
    (bundled,) = (repository / "mlruns/artifacts/models").rglob("bundle/README.md")
    assert (
        bundled.read_text() == card
        and "README.md" in json.loads(bundled.with_name("manifest.json").read_text())["sha256"]
    )
    assert card.startswith("# regionclip-coco\n") and version.tags["data.md5"] in card and "f" * 32 in card
    assert "| AP50 novel | – | 50.0 |" in card and "| AP50 all | – | – |" in card
    for unknown in ("is not known here", "Not calibrated", "were not counted"):
        assert unknown in card


def test_registered_model_predicts_from_any_form(repository: Path, version: ModelVersion) -> None:
    """`models:/...@candidate` finds what the Python API finds: base64, bytes, array, nested lists; two rows; params.

    The Python API opens the same address.
    """
    with process_wide(os.environ["MLFLOW_TRACKING_URI"]):
        model = mlflow.pyfunc.load_model("models:/regionclip-coco@candidate")
    file, other = (repository / f"data/sets/coco/val/{number}.png" for number in (1, 2))
    pixels, wanted = np.asarray(Image.open(file)), RegionCLIP.open(repository)(file, NAMES, **LOW).to_hf()
    assert wanted
    text = base64.b64encode(file.read_bytes()).decode()
    for image in (text, file.read_bytes(), pixels, pixels.tolist()):
        rows = model.predict(pd.DataFrame({"image": [image], "names": [NAMES]}), LOW)["detections"]
        assert rows[0] == wanted
    rows = pd.DataFrame({"image": [other.read_bytes(), text], "names": [["fish"], NAMES]}, index=[7, 3])
    found = model.predict(rows, LOW)["detections"]
    assert list(found.index) == [7, 3] and {one["label"] for one in found[7]} == {"fish"}
    assert found[3] == wanted
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        assert RegionCLIP.open("models:/regionclip-coco@candidate")(file, NAMES, **LOW).to_hf() == wanted
    best = model.predict(rows, LOW | {"top_k": 1, "agnostic": True, "iou": 0.1, "max_detections": 1})["detections"]
    assert [len(one) for one in best] == [1, 1] and best[3] == wanted[:1]


@pytest.fixture(scope="module")
def served(repository: Path) -> RegionCLIPModel:
    """The model as the scoring server calls it, behind MLflow's own check of types."""
    context = PythonModelContext({"bundle": str(repository)}, {})
    model = RegionCLIPModel()
    model.load_context(context)
    return model


def test_no_path_is_opened_and_no_answer_tells_of_files(repository: Path, served: RegionCLIPModel) -> None:
    """What is there and what is not are refused in the same words, as text or as a path, relative or absolute."""
    file = repository / "data/sets/coco/val/1.png"
    said = set()
    for image in (
        str(file),
        f"{file}.not",
        "data/sets/coco/val/1.png",
        "/etc/passwd",
        "/proc/kcore",
        "file:///etc/passwd",
    ):
        with pytest.raises(InputError, match="not base64|not a picture") as refused:
            served.predict(None, pd.DataFrame({"image": [image], "names": [NAMES]}))
        said.add(str(refused.value))
    assert len(said) == 1 and "passwd" not in said.pop()
    with pytest.raises(InputError, match="PosixPath is no form of a picture"):
        served.predict(None, pd.DataFrame({"image": [file], "names": [NAMES]}))


PIXELS = np.zeros((4, 4, 3), int)


@pytest.mark.parametrize(
    ("image", "names"),
    [
        *((image, NAMES) for image in (
            PIXELS.astype(float), PIXELS.astype(float).tolist(), (PIXELS - 1).tolist(), (PIXELS + 256).tolist(),
            PIXELS[0].tolist(), PIXELS.astype(bool).tolist(), PIXELS.astype(str).tolist(), [[1], [1, 2]], [], [None],
            None, 5, {"bytes": "x"}, b"", b"no picture", "", "bm8gcGljdHVyZQ==", Image.new("RGB", (4, 4)),
        )),
        *((PIXELS.tolist(), names) for names in ("star", b"star", None, 5, [5], [None], {"star": 1}, [], [["star"]])),
    ],
)  # fmt: skip
def test_what_is_not_documented_is_refused_and_not_reinterpreted(
    served: RegionCLIPModel, image: object, names: object
) -> None:
    with pytest.raises(InputError):
        served.predict(None, pd.DataFrame({"image": [image], "names": [names]}))


def test_more_columns_and_params_are_refused(served: RegionCLIPModel) -> None:
    row = pd.DataFrame({"image": [PIXELS.tolist()], "names": [NAMES]})
    for table, params in ((row.assign(scores=1), None), (row, {"sigma": 0.5}), (row[["image"]], None)):
        with pytest.raises(InputError, match="wanted the columns image and names, and params of threshold"):
            served.predict(None, table, params)


@given(st.text() | st.binary() | st.recursive(st.integers() | st.text(max_size=3), st.lists, max_leaves=8))
def test_any_other_value_is_refused_in_words(served: RegionCLIPModel, image: object) -> None:
    with pytest.raises(InputError):
        served.predict(None, pd.DataFrame({"image": [image], "names": [NAMES]}))


def test_scoring_server_answers_json(repository: Path, version: ModelVersion) -> None:
    """`mlflow models serve` takes base64 and names as JSON and answers with objects; what makes no sense is refused."""
    with process_wide(os.environ["MLFLOW_TRACKING_URI"]):
        client = TestClient(scoring_server.init(mlflow.pyfunc.load_model("models:/regionclip-coco@candidate")))
    file = repository / "data/sets/coco/val/1.png"
    row = {"image": base64.b64encode(file.read_bytes()).decode(), "names": NAMES}
    answer = client.post("/invocations", json={"dataframe_records": [row], "params": LOW})
    assert answer.status_code == 200, answer.text
    wanted = RegionCLIP.open(repository)(file, NAMES, **LOW).to_hf()
    assert answer.json()["predictions"] == [{"detections": wanted}]
    for wrong in ({"image": row["image"]}, row | {"names": "star"}, row | {"image": "no/such file.png"}):
        assert client.post("/invocations", json={"dataframe_records": [wrong]}).status_code == 400


@pytest.mark.parametrize(
    ("file", "stage"),
    [
        ("artifacts/finetune/coco/regionclip.pth", "finetune@coco"),
        ("reports/metrics/evaluate_coco.json", "evaluate@coco"),
    ],
)
def test_workspace_that_is_not_the_locked_one_is_refused(
    repository: Path, monkeypatch: pytest.MonkeyPatch, file: str, stage: str
) -> None:
    """Weights or numbers of another run would be registered under this one's name."""
    monkeypatch.chdir(repository)
    content = Path(file).read_bytes()
    Path(file).unlink()
    Path(file).write_bytes(content + b" ")
    try:
        with pytest.raises(InputError, match=f"{stage} is not what dvc.lock says: .*modified"):
            register("coco", Path(), None)
    finally:
        Path(file).write_bytes(content)


@pytest.mark.parametrize("value", [math.nan, math.inf, True, "0.5", 55.0])
def test_numbers_that_are_none_are_not_registered(
    repository: Path, monkeypatch: pytest.MonkeyPatch, version: ModelVersion, value: object
) -> None:
    """Though the lock knows the file, and nothing of a version is left behind."""
    monkeypatch.chdir(repository)
    monkeypatch.setattr(registry, "_require_locked", lambda *_: None)
    file = Path("reports/metrics/evaluate_coco.json")
    content = file.read_bytes()
    file.unlink()
    file.write_text(json.dumps({"regionclip": MEASURED | {"ap50_novel": value}}))
    try:
        with pytest.raises(InputError, match="no number") as caught:
            register("coco", Path(), None)
    finally:
        file.unlink()
        file.write_bytes(content)
    assert caught.value.file == file and caught.value.key == "regionclip.ap50_novel"
    client = connect(os.environ["MLFLOW_TRACKING_URI"])
    assert len(client.search_model_versions("name = 'regionclip-coco'")) == int(version.version)


def test_inputs_that_were_left_out_are_no_change(repository: Path, monkeypatch: pytest.MonkeyPatch, version) -> None:
    """On a worker the data need not be there: what is registered is."""
    monkeypatch.chdir(repository)
    shutil.rmtree("data")
    again = register("coco", Path(), None)
    assert int(again.version) == int(version.version) + 1 and again.tags["data.md5"] == version.tags["data.md5"]
