"""`regionclip retrieval` on a tiny CLIP: both forms of captions, and errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regionclip import cli
from regionclip.files import write_json


@pytest.fixture
def captioned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve pictures with two captions each, as a Karpathy JSON and as COCO captions."""
    monkeypatch.setenv("REGIONCLIP_DEVICE", "cpu")
    rng, names = np.random.default_rng(0), [f"{i}.png" for i in range(12)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / name)
    texts = [[f"a thing numbered {i}", f"number {i}"] for i in range(12)]
    entries = [
        {"filename": name, "split": "test", "sentences": [{"raw": text} for text in pair]}
        for name, pair in zip(names, texts, strict=True)
    ]
    write_json(tmp_path / "karpathy.json", {"images": entries})
    images = [{"id": i, "file_name": name, "width": 64, "height": 64} for i, name in enumerate(names)]
    captions = [{"id": 2 * i + k, "image_id": i, "caption": texts[i][k]} for i in range(12) for k in (0, 1)]
    write_json(tmp_path / "coco.json", {"images": images, "annotations": captions})
    return tmp_path


def test_both_forms_give_the_same_numbers(captioned: Path, clip_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for name in ("karpathy.json", "coco.json"):
        arguments = ["retrieval", str(clip_path), "--captions", str(captioned / name), "--images", str(captioned)]
        assert cli.main(arguments) == 0
        output = capsys.readouterr().out
        found.append(json.loads(output[output.index("{") :]))
    recalls = [{key: value for key, value in numbers.items() if "@" in key or "_r" in key} for numbers in found]
    assert recalls[0] == recalls[1] and len(recalls[0]) == 6
    assert found[0]["images"] == 12 and found[0]["captions"] == 24
    assert "karpathy.json" in found[0]["protocol"] and "coco.json" in found[1]["protocol"]


def test_an_unknown_split_is_named(captioned: Path, clip_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = captioned / "karpathy.json"
    arguments = ["retrieval", str(clip_path), "--captions", str(file), "--images", str(captioned), "--split", "tets"]
    assert cli.main(arguments) == 2
    assert f"{file}, key 'split': no image is of the split 'tets'" in capsys.readouterr().err
