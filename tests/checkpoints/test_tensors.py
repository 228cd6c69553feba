"""Equal weights give equal files, which plain safetensors reads; numbers that are not finite are refused everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from regionclip.checkpoints.clip_folder import save_clip
from regionclip.checkpoints.containers import read_container, refuse_non_finite, save_tensors
from regionclip.checkpoints.mmengine_files import publish, read
from regionclip.errors import InputError
from regionclip.files import sha256_tree

TENSORS = {"b": torch.arange(6.0).view(2, 3), "a.x": torch.tensor([1, 2]), "empty": torch.zeros(0, 4)}
TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    """Eight names of metadata have 40320 orders; the library's own writing changes them from call to call."""
    metadata = {f"name{number}": "x" * number for number in range(8)}
    for name in ("first", "second", "third"):
        save_tensors(TENSORS, tmp_path / name, metadata)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


@settings(max_examples=30)
@given(st.dictionaries(TEXT, TEXT, max_size=5))
def test_tensors_and_metadata_come_back(tmp_path: Path, metadata: dict[str, str]) -> None:
    save_tensors(TENSORS, tmp_path / "file", metadata)
    with safe_open(tmp_path / "file", framework="pt") as file:
        assert (file.metadata() or {}) == metadata
        assert set(file.keys()) == set(TENSORS)
        assert all(torch.equal(file.get_tensor(key), value) for key, value in TENSORS.items())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_numbers_that_are_not_finite_are_named(bad: float, dtype: torch.dtype) -> None:
    """Whole numbers, empty tensors and large numbers pass."""
    large = torch.full((3,), torch.finfo(dtype).max, dtype=dtype)
    tensors = {"count": torch.tensor(3), "none": torch.empty(0), "large": large}
    refuse_non_finite(tensors, "x.pth")
    tensors |= {"bad": torch.tensor([0.0, bad], dtype=dtype), "worse": torch.full((2,), bad, dtype=dtype)}
    with pytest.raises(InputError, match=r"x\.pth, key 'bad': .* not finite, in 2 of 5 tensors"):
        refuse_non_finite(tensors, "x.pth")


def _torch(state: dict[str, torch.Tensor], path: Path) -> Path:
    torch.save({"state_dict": state, "meta": {}}, path / "x.pth")
    return path / "x.pth"


def _safetensors(state: dict[str, torch.Tensor], path: Path) -> Path:
    save_file(state, path / "x.safetensors")
    return path / "x.safetensors"


def _npy(state: dict[str, torch.Tensor], path: Path) -> Path:
    np.save(path / "x.npy", state["w"].numpy())
    return path / "x.npy"


@pytest.mark.parametrize(
    ("write", "load"),
    [
        (_torch, read),
        (_torch, read_container),
        (_safetensors, read_container),
        (_npy, read_container),
    ],
)
def test_no_loader_takes_them(tmp_path: Path, write: Callable[..., Path], load: Callable[[Path], object]) -> None:
    load(write({"w": torch.ones(2)}, tmp_path))
    with pytest.raises(InputError, match="not finite"):
        load(write({"w": torch.tensor([1.0, math.nan])}, tmp_path))


@pytest.mark.parametrize(
    "save",
    [
        lambda state, path: publish(state, path / "x.pth", {}),
        lambda state, path: save_clip(path / "clip", {"vision_cfg": {"image_size": 8}}, state, {}),
    ],
)
def test_no_writer_takes_them_and_what_was_there_stays(tmp_path: Path, save: Callable[..., None]) -> None:
    save({"w": torch.ones(2)}, tmp_path)
    before = sha256_tree(tmp_path)
    with pytest.raises(InputError, match="not finite"):
        save({"w": torch.tensor([1.0, math.inf])}, tmp_path)
    assert sha256_tree(tmp_path) == before
