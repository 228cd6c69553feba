"""MLflow's registry: the workspace's detector becomes a version of regionclip-DATASET, a candidate."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from regionclip import artifacts
from regionclip.errors import InputError
from regionclip.evaluation.protocols import PROTOCOLS
from regionclip.files import read_json
from regionclip.inference import THRESHOLD
from regionclip.inference.api import SETTINGS
from regionclip.inference.card import model_card, shortened
from regionclip.inference.files import workspace_files, write_bundle
from regionclip.inference.promotion import CANDIDATE, HEADLINE, model_name
from regionclip.params import Params, load_params
from regionclip.tracking.origin import origin_tags
from regionclip.tracking.sidecar import read_sidecars
from regionclip.tracking.store import connect, delivery_errors, experiment_id, one_line, process_wide, tracking_uri

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_DESCRIPTION = 5000  # letters that MLflow's databases have room for
_PYFUNC = Path(__file__).with_name("pyfunc_model.py")


def register(dataset: str, root: Path, run_id: str | None) -> ModelVersion:
    """Put the detector that a workspace holds, trained from RegionCLIP, into the registry as the candidate.

    Its bundle becomes a pyfunc model; the version is tagged with the numbers of its protocol and with its origin. The
    model card, made of these, is the bundle's README.md, an artifact of the run, and the version's description.
    ``run_id`` is the MLflow run of the pipeline that made it; None leaves the registration without a parent.

    Raises:
        InputError: Files are absent, or not the ones that dvc.lock names; or MLflow does not take the model.
    """
    params = load_params(root / "params.yaml")
    params.require_set(dataset, root / "params.yaml")
    headline = PROTOCOLS[params.data.sets[dataset].protocol].headline
    _require_locked(root, ["pretrain", "rpn", f"finetune@{dataset}", f"evaluate@{dataset}"])
    measured = _measured(dataset, root / artifacts.metrics(f"evaluate@{dataset}"), headline)
    tags = {**_origin(dataset, root, params), HEADLINE: ",".join(headline), "protocol": measured["protocol"]}
    numbers = {key: float(measured[key]) for key in headline if measured.get(key) is not None}
    uri = tracking_uri()
    try:
        return _log(uri, dataset, root, run_id, tags, numbers)
    except InputError:
        raise
    except delivery_errors() as error:
        problem = f"MLflow does not take the model ({one_line(error)})"
        raise InputError(problem, file=uri, mend="look after the server, and run it again") from None


def _log(
    uri: str, dataset: str, root: Path, run_id: str | None, tags: dict[str, str], numbers: dict[str, float]
) -> ModelVersion:
    client, name = connect(uri), model_name(dataset)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    experiment = experiment_id(client)
    of_run = {**origin_tags(), **tags, "kind": "register"}
    files = workspace_files(root, dataset, "regionclip")
    text = model_card(files, root, name, of_run)
    with (
        tempfile.TemporaryDirectory() as folder,
        process_wide(uri),
        mlflow.start_run(run_name=f"register {dataset}", experiment_id=experiment, tags=of_run, parent_run_id=run_id),
    ):
        card = Path(folder) / "README.md"
        card.write_text(text, encoding="utf-8")
        write_bundle(replace(files, card=card), Path(folder) / "bundle")
        mlflow.log_artifact(str(card))
        info = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(_PYFUNC),
            artifacts={"bundle": str(Path(folder) / "bundle")},
            signature=_signature(),
            pip_requirements=[f"regionclip=={of_run['package.regionclip']}"],
            registered_model_name=name,
        )
        mlflow.log_metrics(numbers, model_id=info.model_id)
    version = str(info.registered_model_version)
    for key, value in {**tags, **{key: repr(value) for key, value in numbers.items()}}.items():
        client.set_model_version_tag(name, version, key, value)
    client.update_model_version(name, version, description=shortened(text, _DESCRIPTION))
    # The alias comes last: a version without its tags is no candidate.
    client.set_registered_model_alias(name, CANDIDATE, version)
    return client.get_model_version(name, version)


def _signature() -> Any:
    """Columns and params that a DataFrame and the scoring server's JSON share."""
    from mlflow.models import ModelSignature
    from mlflow.types import schema

    number, text = schema.DataType.double, schema.DataType.string
    corners = schema.Object([schema.Property(side, number) for side in ("xmin", "ymin", "xmax", "ymax")])
    found = {"score": number, "label": text, "box": corners}
    objects = schema.Array(schema.Object([schema.Property(name, kind) for name, kind in found.items()]))
    # Pictures come as bytes, base64 or pixels.
    image, names = schema.ColSpec(schema.AnyType(), "image"), schema.ColSpec(schema.Array(text), "names")
    known = (("double", THRESHOLD), ("long", None), ("long", None), ("double", None), ("boolean", False))
    params = [schema.ParamSpec(name, kind, value) for name, (kind, value) in zip(SETTINGS, known, strict=True)]
    outputs = schema.Schema([schema.ColSpec(objects, "detections")])
    return ModelSignature(schema.Schema([image, names]), outputs, schema.ParamSchema(params))


def _require_locked(root: Path, stages: list[str]) -> None:
    """Refuse a workspace that is not what dvc.lock says: its numbers would not be those of its weights."""
    command = [sys.executable, "-m", "dvc", "status", "--json", *stages]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"`dvc status` failed ({done.stderr.strip()[-300:]})", file=root, mend="mend the repository")
    for stage, changes in json.loads(done.stdout).items():
        if change := _first_change(changes):
            problem = f"{stage} is not what dvc.lock says: {change}"
            raise InputError(problem, file=root / "dvc.lock", mend=f"run `dvc repro {' '.join(stages)}`")


def _first_change(changes: Any, name: str = "") -> str | None:
    """Return the first entry of ``dvc status`` that was changed.

    On a worker inputs may be left out, as "deleted", and results lie where they were made, "not in cache"; both are
    no change.
    """
    if isinstance(changes, dict):
        return next((found for key, value in changes.items() if (found := _first_change(value, key))), None)
    if isinstance(changes, list):
        return next((found for value in changes if (found := _first_change(value, name))), None)
    return None if changes in ("deleted", "not in cache") else f"{name} {changes}".strip()


def _origin(dataset: str, root: Path, params: Params) -> dict[str, str]:
    lock = (root / "dvc.lock").read_bytes()
    deps = {dep["path"]: dep["md5"] for dep in yaml.safe_load(lock)["stages"][f"evaluate@{dataset}"]["deps"]}
    runs = {stage: sidecar["run_id"] for stage, sidecar in read_sidecars(root / artifacts.SIDECARS).items()}
    made_by = {
        f"{stage}.run_id": run
        for stage in ("pretrain", "finetune", "evaluate")
        if (run := runs.get(stage) or runs.get(f"{stage}@{dataset}"))
    }
    tags = origin_tags()
    return {
        "profile": params.profile,
        "seed": str(params.seed),
        "split": params.evaluation.split,
        "data.md5": deps[(artifacts.SETS / dataset).as_posix()],
        "dvc.lock.md5": hashlib.md5(lock, usedforsecurity=False).hexdigest(),
        "git.sha": tags["git.sha"],
        "git.dirty": tags["git.dirty"],
        **made_by,
    }


def _measured(dataset: str, file: Path, headline: tuple[str, ...]) -> dict[str, Any]:
    """Return the stage's numbers of RegionCLIP; those of the headline are from 0 to 1, or None where not defined."""
    metrics, mend = read_json(file), f"run `dvc repro evaluate@{dataset}`"
    measured = metrics.get("regionclip") if isinstance(metrics, dict) else None
    if not isinstance(measured, dict) or not isinstance(measured.get("protocol"), str):
        raise InputError("there are no numbers of RegionCLIP", file=file, key="regionclip", mend=mend)
    for key in headline:
        value = measured.get(key)
        sound = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
        if value is not None and not sound:
            problem = f"{str(value)[:40]} is no number from 0 to 1"
            raise InputError(problem, file=file, key=f"regionclip.{key}", mend=mend)
    return measured
