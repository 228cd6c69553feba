"""Workspaces and bundles: what is absent or changed is named."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from regionclip import RegionCLIP
from regionclip.errors import InputError
from regionclip.inference.files import read_bundle, workspace_files, write_bundle


@pytest.fixture
def bundle(workspace: Path, tmp_path: Path) -> Path:
    """A bundle of the workspace's detector."""
    write_bundle(workspace_files(workspace, "coco", "regionclip"), tmp_path / "bundle")
    return tmp_path / "bundle"


def test_bundle_holds_the_files_and_knows_its_origin(workspace: Path, bundle: Path) -> None:
    """Each file has the bytes of the workspace, none is pickled code, and all but the manifest have a SHA-256."""
    names = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    clip = {"clip/open_clip_config.json", "clip/open_clip_model.safetensors"}
    assert names == {"manifest.json", "params.json", "detector.pth", "rpn.pth"} | clip
    assert json.loads((bundle / "manifest.json").read_text())["sha256"].keys() == names - {"manifest.json"}
    found, origin = read_bundle(bundle), workspace_files(workspace, "coco", "regionclip")
    assert (found.dataset, found.initialisation, found.params) == ("coco", "regionclip", origin.params)
    assert found.detector.read_bytes() == origin.detector.read_bytes()


@pytest.mark.parametrize("name", ["detector.pth", "rpn.pth", "params.json", "clip/open_clip_model.safetensors"])
def test_changed_or_absent_file_is_named(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[-1] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(InputError, match="not the one that was exported") as caught:
        read_bundle(bundle)
    assert caught.value.file == bundle / name
    (bundle / name).unlink()
    with pytest.raises(InputError, match="does not exist") as caught:
        read_bundle(bundle)
    assert caught.value.file == bundle / name


@pytest.mark.parametrize("name", ["artifacts/finetune/coco/regionclip.pth", "artifacts/rpn/rpn.pth"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers_leave_in_no_bundle(
    workspace: Path, tmp_path: Path, name: str, value: float
) -> None:
    """Nor into MLflow's registry, where a bundle is what is registered."""
    shutil.copytree(workspace, tmp_path / "copy")
    weights = torch.load(tmp_path / "copy" / name, weights_only=True)
    next(iter(weights["state_dict"].values())).view(-1)[0] = value
    torch.save(weights, tmp_path / "copy" / name)
    with pytest.raises(InputError, match="not finite") as caught:
        write_bundle(workspace_files(tmp_path / "copy", "coco", "regionclip"), tmp_path / "bundle")
    assert caught.value.file == tmp_path / "copy" / name and not (tmp_path / "bundle").exists()


def test_manifest_that_leaves_a_file_out_is_refused(bundle: Path) -> None:
    """A file without a SHA-256 would be read unchecked."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    del manifest["sha256"]["rpn.pth"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="key 'rpn.pth'"):
        read_bundle(bundle)
    (bundle / "manifest.json").write_text('{"format": "other"}')
    with pytest.raises(InputError, match="no bundle"):
        read_bundle(bundle)


def test_workspace_without_the_detector_says_what_to_run(workspace: Path, tmp_path: Path) -> None:
    """No such training in the params; or not run yet."""
    with pytest.raises(InputError, match=r"finetune/lvis/clip\.pth: .*`dvc repro finetune@lvis`"):
        workspace_files(workspace, "lvis", "clip")
    shutil.copy(workspace / "params.yaml", tmp_path / "params.yaml")
    with pytest.raises(
        InputError, match="key 'data.sets': there is no data set 'voc'. To mend: name one of coco, lvis"
    ):
        workspace_files(tmp_path, "voc", "regionclip")
    only = (tmp_path / "params.yaml").read_text().replace("[clip, regionclip]", "[regionclip]")
    (tmp_path / "params.yaml").write_text(only)
    with pytest.raises(InputError, match="no detector is trained from clip"):
        workspace_files(tmp_path, "lvis", "clip")


def test_folder_of_other_things_is_never_replaced(detector: RegionCLIP, tmp_path: Path) -> None:
    """A bundle and an export take a new, an empty, or their own folder; what a user has there stays."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/mine.jpg").write_bytes(b"mine")
    for write in (detector.bundle, detector.export):
        for place in (tmp_path / "photos", tmp_path, tmp_path / "photos/mine.jpg"):
            with pytest.raises(InputError, match="holds something else.*To mend: name a new folder"):
                write(place)
    assert (tmp_path / "photos/mine.jpg").read_bytes() == b"mine" and len([*tmp_path.iterdir()]) == 1
    (tmp_path / "empty").mkdir()
    detector.bundle(tmp_path / "empty")
    detector.bundle(tmp_path / "empty")
    with pytest.raises(InputError, match="holds something else, without detector.onnx"):
        detector.export(tmp_path / "empty")
