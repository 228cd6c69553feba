"""inspect says what any weight file is, counts its tensors, and offers only conversions that work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from regionclip.checkpoints.inspect import Description, inspect
from regionclip.errors import InputError
from regionclip.files import sha256_file
from regionclip.text.text_bank import TextBank


def _save(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def _rows(found: Description) -> dict[str, list[str]]:
    """Return the printed table by module."""
    console = Console(width=120, record=True)
    console.print(found.table())
    lines = [line for line in console.export_text().splitlines() if "│" in line]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    return {module: rest for module, *rest in cells}


def test_pretrained_file(official, tmp_path: Path) -> None:
    path = _save({"model": official("pretrain"), "iteration": 1}, tmp_path / "p.pth")
    found = inspect(path)
    assert found.facts["what"] == "a pretrained RegionCLIP (student and text encoder)"
    assert found.facts["sha256"] == sha256_file(path) and found.facts["beside the weights"] == "iteration"
    assert (found.facts["architecture"], found.facts["proposal network"]) == ("RN50", "fpn")
    rows = _rows(found)
    assert rows["backbone.attnpool"][:2] == ["9", "14,789,632"], "three 2048 x 2048, one 1024 x 2048"
    assert rows["all"][0] == "1,004" and rows["lang_encoder"] == ["2", "563,712", "float32"]
    assert [command.split(" -o ")[0].partition("--")[2] for command in found.commands] == [
        "to open_clip", "to open_clip --part teacher", "to mmdet --part student", "to mmdet --part teacher",
        "to mmdet --part rpn",
    ]  # fmt: skip


def test_finetuned_file_tells_its_classes(official, tmp_path: Path) -> None:
    found = inspect(_save(official("ft_coco"), tmp_path / "f.pth"))
    assert found.facts["class embeddings"] == "training (48, 1024), test (65, 1024)"
    assert found.facts["mask head"] == "no" and found.facts["proposal network"] == "c4"
    assert any("--part detector" in command for command in found.commands)
    assert not any("open_clip" in command for command in found.commands)


def test_what_is_not_used_is_told_with_the_reason(rpn, tmp_path: Path) -> None:
    state = rpn("c4") | {f"roi_heads.x{number}": torch.ones(1) for number in (1, 2)}
    found = inspect(_save(state, tmp_path / "r.pth"))
    assert found.facts["not used"] == "2 (the detection head that the proposal network was trained with)"


def test_embeddings_of_both_spellings(tmp_path: Path) -> None:
    rows = np.array([[3.0, 4.0], [0.0, 1.0], [0.6, 0.8]], np.float32)
    np.save(tmp_path / "e.npy", rows)
    for path in (tmp_path / "e.npy", _save(torch.from_numpy(rows), tmp_path / "e.pth")):
        found = inspect(path)
        assert found.facts["rows"] == "3 of width 2" and found.facts["norms"] == "1.0000 to 5.0000"
        assert "--to text-bank" in found.commands[0]
    single = inspect(_save(torch.ones(7), tmp_path / "one.pth"))
    assert not single.commands and single.facts["shape"].startswith("(7,)")


def test_text_bank_and_clip_folder(clip_path: Path, tmp_path: Path) -> None:
    TextBank(("star", "ring"), torch.ones(2, 3), ("{}.",), "demo", "a" * 64).save(tmp_path / "b.safetensors")
    bank = inspect(tmp_path / "b.safetensors")
    assert bank.facts["what"] == "a text bank" and bank.facts["names"].startswith("2: star, ring")
    clip = inspect(clip_path)
    assert clip.facts["image tower"] == "ModifiedResNet, layers [1, 1, 1, 1], width 16"
    assert f"local-dir:{clip_path}" in clip.commands[0]


@pytest.mark.parametrize(("names", "words"), [("star, ring", "record names: not JSON"), ("5", "key 'names': no JSON")])
def test_a_text_bank_without_names_is_refused(tmp_path: Path, names: str, words: str) -> None:
    save_file({"embeddings": torch.ones(2, 3)}, tmp_path / "b.safetensors", {"names": names})
    with pytest.raises(InputError, match=words):
        inspect(tmp_path / "b.safetensors")


def test_foreign_weights_are_described_and_offer_nothing(tmp_path: Path) -> None:
    found = inspect(_save({"visual.class_embedding": torch.ones(768)}, tmp_path / "vit.pt"))
    assert "vision transformer" in found.facts["what"] and not found.commands
    assert _rows(found)["visual"][:2] == ["1", "768"]


def test_an_incomplete_official_file_is_refused(official, tmp_path: Path) -> None:
    state = official("ft_coco")
    del state["backbone.layer2.0.conv1.weight"]
    with pytest.raises(InputError, match="key 'backbone.layer2.0.conv1.weight'"):
        inspect(_save(state, tmp_path / "f.pth"))
