"""Captioned images in memory: every record follows from the seed and its position in the stream."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regionclip.data.datasets.pairs import PairsDataset
from regionclip.errors import InputError

SIDE = 8


def _tokens(captions: list[str]) -> torch.Tensor:
    """Stands in for CLIP's tokenizer: the number that the caption ends with."""
    return torch.tensor([[0, int(caption.split()[-1]), 1] for caption in captions])


def _shard(folder: Path, sizes: list[int]) -> Path:
    """Write pictures whose red is the number and whose green is a ramp to the right."""
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for number, side in enumerate(sizes):
            pixels = np.zeros((side, side, 3), np.uint8)
            pixels[..., 0], pixels[..., 1] = 10 * number, np.arange(side) * 20
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            for extension, content in (("png", file.getvalue()), ("txt", f"picture {number}".encode())):
                member = tarfile.TarInfo(f"{number:09d}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return folder


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return _shard(tmp_path / "pairs", [SIDE] * 5)


def test_an_epoch_shows_each_picture_once_with_its_own_caption(shards: Path) -> None:
    pairs = PairsDataset(shards, _tokens, seed=0)
    records = [pairs[position] for position in range(5)]
    numbers = [int(record["inputs"][0, 0, 0]) // 10 for record in records]
    assert len(pairs) == 5 and sorted(numbers) == [0, 1, 2, 3, 4]
    assert [int(record["tokens"][1]) for record in records] == numbers
    assert all(record["inputs"].shape == (3, SIDE, SIDE) for record in records)
    assert all(record["inputs"].dtype == torch.uint8 for record in records)


def test_position_and_seed_decide_everything(shards: Path) -> None:
    first, again, other = (PairsDataset(shards, _tokens, seed) for seed in (0, 0, 1))
    positions = list(range(15))
    same = [torch.equal(first[p]["inputs"], again[p]["inputs"]) for p in reversed(positions)]
    assert all(same)
    assert any(not torch.equal(first[p]["inputs"], other[p]["inputs"]) for p in positions)


def test_without_shift_a_record_is_the_picture_or_its_mirror(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regionclip.data.datasets.pairs.MAX_SHIFT", 0)
    pairs = PairsDataset(shards, _tokens, seed=0)
    ramp = torch.arange(SIDE, dtype=torch.uint8) * 20
    seen = [pairs[position]["inputs"][1, 0].tolist() for position in range(40)]
    assert {tuple(row) for row in seen} == {tuple(ramp.tolist()), tuple(ramp.flip(0).tolist())}


def test_shifts_repeat_the_border_and_reach_their_limit(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moved by at most two pixels to either side; what comes in is the border's colour."""
    monkeypatch.setattr("regionclip.data.datasets.pairs.MAX_SHIFT", 2)
    pairs = PairsDataset(shards, _tokens, seed=0)
    columns = np.arange(SIDE)
    expected = {tuple((np.clip(columns + shift, 0, SIDE - 1) * 20).tolist()) for shift in range(-2, 3)}
    expected |= {row[::-1] for row in expected}
    seen = {tuple(pairs[position]["inputs"][1, 0].tolist()) for position in range(200)}
    assert seen == expected


def test_pictures_of_several_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"differ in size \(\(9, 9\) beside \(8, 8\)\)") as caught:
        PairsDataset(_shard(tmp_path / "pairs", [8, 9]), _tokens, seed=0)
    assert caught.value.record == "000000001"


def test_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        PairsDataset(_shard(tmp_path / "pairs", []), _tokens, seed=0)
    assert str(tmp_path / "pairs") in str(caught.value)
