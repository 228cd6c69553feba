"""TextBank: what is written is read again, and what does not fit is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from regionclip.errors import InputError
from regionclip.text.text_bank import TextBank

NAMES = ("star", "red star", "stop sign")
ROWS = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


def _bank(**changes: object) -> TextBank:
    values = {
        "names": NAMES,
        "embeddings": ROWS,
        "templates": ("a photo of a {}.",),
        "text_model": "demo",
        "weights_sha256": "a" * 64,
    }
    return TextBank(**(values | changes))


def _write(path: Path, tensors: dict[str, torch.Tensor] | None = None, **changes: str | None) -> Path:
    """Write a bank's file with some metadata replaced, or left out (None)."""
    metadata = {
        "names": json.dumps(NAMES),
        "templates": '["{}."]',
        "text_model": "demo",
        "weights_sha256": "a" * 64,
        "sha256": hashlib.sha256(ROWS.numpy().tobytes()).hexdigest(),
    } | changes
    save_file(
        tensors or {"embeddings": ROWS}, path, {key: value for key, value in metadata.items() if value is not None}
    )
    return path


def test_a_bank_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "bank.safetensors"
    _bank(names=("star", "caf\xe9", 'a, "b"')).save(path)
    bank = TextBank.load(path)
    assert bank.names == ("star", "caf\xe9", 'a, "b"')
    assert torch.equal(bank.embeddings, ROWS)
    assert (bank.templates, bank.text_model, bank.weights_sha256) == (("a photo of a {}.",), "demo", "a" * 64)
    assert bank.sha256 == hashlib.sha256(np.arange(1, 7, dtype="<f4").tobytes()).hexdigest()
    assert load_file(path).keys() == {"embeddings"}


@settings(max_examples=20)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5, unique=True), st.integers(1, 4)
)
def test_any_names_survive_the_file(tmp_path: Path, names: list[str], width: int) -> None:
    rows = torch.arange(len(names) * width, dtype=torch.float32).reshape(len(names), width)
    _bank(names=tuple(names), embeddings=rows).save(tmp_path / "b.safetensors")
    bank = TextBank.load(tmp_path / "b.safetensors")
    assert bank.names == tuple(names) and torch.equal(bank.embeddings, rows)


def test_subset_follows_names() -> None:
    part = _bank().subset(["stop sign", "star"])
    assert len(part) == 2 and part.width == 2
    assert part.names == ("stop sign", "star") and part.embeddings.tolist() == [[5.0, 6.0], [1.0, 2.0]]
    with pytest.raises(InputError, match="record boat, key 'names': the bank has no such name"):
        _bank().subset(["star", "boat"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embeddings": ROWS[0]}, r"got shape \(2,\), wanted \(3, D\)"),
        ({"embeddings": ROWS[:1]}, r"got shape \(1, 2\), wanted \(3, D\)"),
        ({"embeddings": ROWS[:, :0]}, r"got shape \(3, 0\)"),
        ({"names": (), "embeddings": ROWS[:0]}, r"got shape \(0, 2\)"),
        ({"embeddings": ROWS.double()}, "float64, wanted torch.float32"),
        (
            {"embeddings": torch.tensor([[1.0, 2.0], [3.0, float("nan")], [0.0, 1.0]])},
            r"row 1 \(red star\).*not finite",
        ),
        ({"names": ("star", "ring", "star")}, "record star.*occurs twice"),
    ],
)
def test_wrong_content_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _bank(**changes)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            {"width": 1024},
            "bank.safetensors, key 'embeddings': embeddings of width 2, wanted 1024.*To mend: use the text",
        ),
        ({"names": ("star", "ring", "stop sign")}, "record row 1, key 'names': got 'red star', wanted 'ring'"),
        ({"names": NAMES[::-1]}, "row 0.*got 'star', wanted 'stop sign'"),
        ({"names": NAMES[:2]}, "got 3 names, wanted 2"),
        ({"weights_sha256": "b" * 64}, "key 'weights_sha256': built with weights aaaaaaaaaaaa, wanted bbbbbbbbbbbb"),
    ],
)
def test_a_bank_that_does_not_fit_its_consumer_is_refused(
    tmp_path: Path, wanted: dict[str, object], message: str
) -> None:
    _bank().save(tmp_path / "bank.safetensors")
    bank = TextBank.load(tmp_path / "bank.safetensors")
    bank.require(width=2, names=NAMES, weights_sha256="a" * 64)
    with pytest.raises(InputError, match=message):
        bank.require(**wanted)


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        (None, {"sha256": "0" * 64}, "key 'sha256': the embeddings do not fit their checksum"),
        (None, {"names": None}, "key 'names': the metadata key is missing"),
        (None, {"weights_sha256": None}, "key 'weights_sha256': the metadata key is missing"),
        (None, {"templates": "{}."}, "key 'templates': not a JSON list"),
        (None, {"names": "[1, 2, 3]"}, "key 'names': not a JSON list"),
        ({"weight": ROWS}, {}, "key 'embeddings': the tensor is missing"),
        ({"embeddings": ROWS[0]}, {}, r"got shape \(2,\)"),
    ],
)
def test_a_wrong_file_is_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor] | None, metadata: dict[str, str | None], message: str
) -> None:
    path = _write(tmp_path / "bank.safetensors", tensors, **metadata)
    with pytest.raises(InputError, match=f"bank.safetensors.*{message}.*To mend"):
        TextBank.load(path)


def test_an_absent_or_cut_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bank.safetensors"
    with pytest.raises(InputError, match="bank.safetensors: the file does not exist"):
        TextBank.load(path)
    _write(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="bank.safetensors: not a safetensors file, or cut short"):
        TextBank.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "bank.safetensors"
    _bank().save(path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        _bank(text_model=7).save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
