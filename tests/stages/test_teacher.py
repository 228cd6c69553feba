"""An open_clip ResNet is imported strictly, from a weights file of its own architecture."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.errors import InputError
from regionclip.params.stages import Teacher
from regionclip.stages import teacher

MODEL = "tiny-resnet-of-the-tests"


@pytest.fixture
def clip(clip_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClipFolder:
    """The tiny CLIP, whose architecture open_clip knows by name; the current folder is empty."""
    folder = ClipFolder.open(clip_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / f"{MODEL}.json").write_text(json.dumps(folder.model_cfg))
    open_clip.add_model_config(tmp_path / "configs")
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return folder


def _context(model: str, weights: Path) -> SimpleNamespace:
    section = Teacher(source="open_clip", model=model, weights=str(weights))
    return SimpleNamespace(params=SimpleNamespace(teacher=section), digest="1" * 64)


def test_imported_teacher_is_the_file(clip: ClipFolder) -> None:
    teacher.run(_context(MODEL, clip.weights))
    imported = ClipFolder.open("artifacts/teacher")
    state = imported.model().state_dict()
    assert imported.model_cfg == clip.model_cfg
    assert all(torch.equal(value, state[key]) for key, value in clip.state_dict().items())


def test_a_clip_folder_is_taken_as_it_is(clip: ClipFolder, clip_path: Path) -> None:
    section = Teacher(source="folder", weights=str(clip_path))
    teacher.run(SimpleNamespace(params=SimpleNamespace(teacher=section), digest="1" * 64))
    imported = ClipFolder.open("artifacts/teacher")
    assert imported.model_cfg == clip.model_cfg and teacher.HISTORY.read_text() == ""
    assert all(torch.equal(value, imported.state_dict()[key]) for key, value in clip.state_dict().items())


def test_unknown_model_is_named_with_those_that_are_known(clip: ClipFolder) -> None:
    with pytest.raises(InputError, match="no model 'RN51'.*name one of .*RN50x4") as caught:
        teacher.run(_context("RN51", clip.weights))
    assert caught.value.key == "teacher.model" and not Path("artifacts").exists()


def test_absent_weights_are_named(clip: ClipFolder) -> None:
    with pytest.raises(InputError, match=r"none\.safetensors: the file does not exist. To mend: fetch it"):
        teacher.run(_context(MODEL, Path("none.safetensors")))


@pytest.mark.parametrize("name", ["half.safetensors", "half.pt"])
def test_damaged_weights_are_named(clip: ClipFolder, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(clip.weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="cut short.* To mend: fetch the file again") as caught:
        teacher.run(_context(MODEL, file))
    assert caught.value.file == file and not Path("artifacts").exists()


def test_weights_of_another_architecture_are_refused(clip: ClipFolder, tmp_path: Path) -> None:
    state = clip.state_dict()
    state["visual.layer4.0.conv1.weight"] = state["visual.layer4.0.conv1.weight"][:, :8].contiguous()
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="another shape") as caught:
        teacher.run(_context(MODEL, tmp_path / "other.safetensors"))
    assert caught.value.key == "visual.layer4.0.conv1.weight" and caught.value.file == str(
        tmp_path / "other.safetensors"
    )
    assert not Path("artifacts").exists()
