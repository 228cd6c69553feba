"""The files of a detector: where a workspace keeps them, and the bundle that holds them all."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from regionclip import artifacts
from regionclip.checkpoints.clip_folder import CONFIG, WEIGHTS, ClipFolder, save_clip
from regionclip.checkpoints.mmengine_files import publish, read
from regionclip.checkpoints.official import clip_weights, read_official, rpn_weights
from regionclip.errors import InputError
from regionclip.files import atomic_dir, read_json, require_own, sha256_file, sha256_tree, write_json
from regionclip.inference.api import Initialisation
from regionclip.params import Params, check_params, load_params
from regionclip.text.text_bank import BUILT_IN

MANIFEST = "manifest.json"
_NAMES = {"detector": "detector.pth", "rpn": "rpn.pth", "calibration": "calibration.json", "card": "README.md"}
_FORMAT = "regionclip-detector-2"
_MEND = "export the bundle again"


@dataclass(frozen=True)
class DetectorFiles:
    """What a detector is made of, and what it was trained on, from and with."""

    dataset: str
    initialisation: Initialisation
    params: Params
    clip: Path  # the CLIP folder that it started from; its text encoder embeds the names
    detector: Path  # checkpoint
    rpn: Path  # checkpoint of the region proposal network
    calibration: Path | None = None  # where it has been calibrated
    card: Path | None = None  # of a bundle that was registered: what it is, for people


def workspace_files(root: Path, dataset: str | None, initialisation: Initialisation) -> DetectorFiles:
    """Return the files in a folder where the pipeline has run; None: of the first data set in its params.

    Raises:
        InputError: A file is absent, or the params are broken.
    """
    params = load_params(root / "params.yaml")
    dataset = dataset or next(iter(params.data.sets))
    params.require_set(dataset, root / "params.yaml")
    if initialisation not in params.finetune.initialisations:
        problem, key = f"no detector is trained from {initialisation}", "finetune.initialisations"
        raise InputError(problem, file=root / "params.yaml", key=key, mend="add it, or take another")
    files = DetectorFiles(
        dataset,
        initialisation,
        params,
        clip=root / artifacts.CLIP_FOLDERS[initialisation],
        detector=root / artifacts.FINETUNED / dataset / f"{initialisation}.pth",
        rpn=root / artifacts.RPN,
        calibration=made if (made := root / artifacts.calibration(dataset, initialisation)).is_file() else None,
    )
    for path in (files.clip / WEIGHTS, files.detector, files.rpn):
        if not path.is_file():
            mend = f"run `dvc repro finetune@{dataset}`, or `dvc pull`"
            raise InputError("the file does not exist", file=path, mend=mend)
    return files


def registered_bundle(uri: str | Path) -> Path:
    """Return the bundle of a model in MLflow's registry, ``models:/NAME@ALIAS``, fetched where it is not local.

    Raises:
        InputError: MLflow has no such model, or does not answer, or is not installed.
    """
    try:
        from mlflow.artifacts import download_artifacts

        from regionclip.tracking.store import delivery_errors, one_line, process_wide, tracking_uri
    except ModuleNotFoundError:
        mend = "pip install 'regionclip[pipeline]'"
        raise InputError("MLflow is not installed", file=uri, mend=mend) from None
    try:
        with process_wide(tracking_uri()):
            return Path(download_artifacts(str(uri))) / "artifacts" / "bundle"
    except delivery_errors() as error:
        mend = "look at the names and aliases in the MLflow UI, or set MLFLOW_TRACKING_URI"
        raise InputError(f"MLflow gives no such model ({one_line(error)})", file=uri, mend=mend) from None


def write_bundle(files: DetectorFiles, folder: str | Path) -> None:
    """Copy the files to a folder of their own, with the SHA-256 of each; written whole or not at all.

    Raises:
        InputError: A file is damaged, a weight is not finite, or ``folder`` holds something else than a bundle.
    """
    require_own(folder, MANIFEST)
    ClipFolder.open(files.clip).state_dict()
    for checkpoint in (files.detector, files.rpn):
        read(checkpoint)
    with atomic_dir(folder) as beside:
        (beside / "clip").mkdir()
        for name in (CONFIG, WEIGHTS):
            shutil.copyfile(files.clip / name, beside / "clip" / name)
        for key, name in _NAMES.items():
            if (file := getattr(files, key)) is not None:
                shutil.copyfile(file, beside / name)
        write_json(beside / "params.json", files.params.model_dump(mode="json"))
        written = sorted(path for path in beside.rglob("*") if path.is_file())
        digests = {path.relative_to(beside).as_posix(): sha256_file(path) for path in written}
        origin = {"dataset": files.dataset, "initialisation": files.initialisation}
        write_json(beside / MANIFEST, {"format": _FORMAT, **origin, "sha256": digests})


def bundle_official(
    detector: str | Path, rpn: str | Path, clip: str | Path, params: Params, dataset: str, folder: str | Path
) -> None:
    """Write a bundle of official checkpoints, so that they are opened like our own.

    Args:
        detector: A fine-tuned RegionCLIP.
        rpn: Its proposal network, or a file that holds one.
        clip: What its words are embedded with: a CLIP folder, a pretrained RegionCLIP, OpenAI's or open_clip's ResNet.
        params: Of the profile of its experiment.
        dataset: One of their data sets.
        folder: The bundle.

    Raises:
        InputError: A file is refused, or the params have no such data set.
    """
    params.require_set(dataset, None)
    official, (rpn_state, classes) = read_official(detector, "finetuned"), rpn_weights(rpn)
    state = official.detector()
    trained = len(state["roi_head.bbox_head.fc_cls.embeddings"])
    names = next((list(names) for names in BUILT_IN.values() if len(names) == trained), [""] * trained)
    origin = {"source": official.path.name, "source_sha256": official.sha256}
    with tempfile.TemporaryDirectory() as beside:
        here = Path(beside)
        save_clip(here / "clip", *clip_weights(clip), {"source_sha256": sha256_tree(clip)})
        publish(state, here / "detector.pth", {"classes": names, **origin})
        publish(rpn_state, here / "rpn.pth", {"classes": list(classes)})
        made = DetectorFiles(dataset, "regionclip", params, here / "clip", here / "detector.pth", here / "rpn.pth")
        write_bundle(made, folder)


def read_bundle(folder: Path) -> DetectorFiles:
    """Return the files of a bundle, each compared with its SHA-256.

    Raises:
        InputError: It is none or incomplete, or a file is not the one that was exported.
    """
    file = folder / MANIFEST
    manifest = read_json(file)
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise InputError("this is no bundle of a detector", file=file, key="format", mend=_MEND)
    needed = {f"clip/{CONFIG}", f"clip/{WEIGHTS}", "detector.pth", "rpn.pth", "params.json"}
    if missing := needed - manifest.get("sha256", {}).keys():
        raise InputError("the file has no SHA-256", file=file, key=min(missing), mend=_MEND)
    for name, digest in manifest["sha256"].items():
        path = folder / name
        if not path.is_file():
            raise InputError("the file does not exist", file=path, mend=_MEND)
        if sha256_file(path) != digest:
            raise InputError("the file is not the one that was exported", file=path, key="sha256", mend=_MEND)
    params = check_params(read_json(folder / "params.json"), folder / "params.json")
    held = {key: folder / name for key, name in _NAMES.items() if name in manifest["sha256"]}
    return DetectorFiles(manifest["dataset"], manifest["initialisation"], params, folder / "clip", **held)
