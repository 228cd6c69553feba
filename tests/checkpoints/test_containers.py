"""Weight files of all writers are read; none of them runs code, and a damaged one says so."""

from __future__ import annotations

import io
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from benchmarks.fuzzing.weights import run
from regionclip.checkpoints.containers import Container, read_container
from regionclip.checkpoints.mmengine_files import read
from regionclip.errors import InputError

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


class _Code:
    """A pickle that would make the folder it was given."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.folder,)


def _same(container: Container) -> bool:
    return container.tensors.keys() == STATE.keys() and all(
        torch.equal(value, STATE[key]) for key, value in container.tensors.items()
    )


@pytest.mark.parametrize(
    ("content", "beside"),
    [
        (STATE, ()),
        ({"model": STATE, "iteration": 5, "optimizer": {"state": {}}}, ("iteration", "optimizer")),
        ({"state_dict": STATE, "meta": {"epoch": 1}}, ("meta",)),
        ({"state_dict": {f"module.{key}": value for key, value in STATE.items()}, "epoch": 3}, ("epoch",)),
    ],
    ids=["bare", "Detectron2", "MMEngine", "open_clip's training"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_wrappers_are_taken_off_and_named(tmp_path: Path, content: dict, beside: tuple, zipped: bool) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    container = read_container(path)
    assert _same(container) and container.beside == beside


def test_safetensors_come_with_their_metadata(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors", {"format": "pt"})
    container = read_container(tmp_path / "w.safetensors")
    assert _same(container) and container.metadata == {"format": "pt"}


def test_a_single_array_is_a_tensor(tmp_path: Path) -> None:
    torch.save(STATE["a.weight"], tmp_path / "emb.pth")
    np.save(tmp_path / "emb.npy", STATE["a.weight"].numpy())
    for name in ("emb.pth", "emb.npy"):
        assert torch.equal(read_container(tmp_path / name), STATE["a.weight"])


@pytest.mark.parametrize("writer", ["torch", "torch, old format", "pickle", "numpy"])
def test_code_is_refused_and_not_run(tmp_path: Path, writer: str) -> None:
    path, made = tmp_path / ("bad.npy" if writer == "numpy" else "bad.pth"), tmp_path / "made"
    code = _Code(str(made))
    if writer == "numpy":
        np.save(path, np.array([code], dtype=object), allow_pickle=True)
    elif writer == "pickle":
        path.write_bytes(pickle.dumps(code))
    else:
        torch.save({"model": STATE, "x": code}, path, _use_new_zipfile_serialization=writer == "torch")
    with pytest.raises(InputError, match="could run code") as caught:
        read_container(path)
    assert caught.value.file == path and caught.value.mend and not made.exists()


def test_a_torchscript_archive_is_named_and_not_run(tmp_path: Path) -> None:
    """OpenAI publishes its CLIPs in this form."""
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "RN50.pt")
    with pytest.raises(InputError, match="TorchScript archive.*state_dict"):
        read_container(tmp_path / "RN50.pt")


def _bytes(name: str) -> bytes:
    buffer = io.BytesIO()
    if name == ".npy":
        np.save(buffer, STATE["a.weight"].numpy())
    else:
        torch.save({"model": STATE}, buffer, _use_new_zipfile_serialization=name == ".pth")
    return buffer.getvalue()


@settings(max_examples=40)
@given(suffix=st.sampled_from([".pth", ".pt", ".npy"]), part=st.floats(0, 0.999))
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, suffix: str, part: float) -> None:
    whole = _bytes(suffix)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(InputError, match=r"cut short|could run code") as caught:
        read_container(path)
    assert caught.value.file == path


def test_cut_safetensors_and_text_are_refused(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors")
    whole = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(whole[:-3])
    (tmp_path / "page.pth").write_text("<html>quota exceeded</html>")
    for name in ("w.safetensors", "page.pth"):
        with pytest.raises(InputError, match="cut short"):
            read_container(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([1, 2], "no weights but a list"),
        ({}, "no weights but a dict"),
        ({"model": {"a": 1}}, "key 'a': a int among the weights"),
        ({"x": torch.ones(1), "epoch": 3}, "key 'epoch': a int among the weights"),
    ],
)
def test_what_holds_no_weights_is_refused(tmp_path: Path, content: object, problem: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError, match=problem):
        read_container(tmp_path / "w.pth")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none.pth: the file does not exist"):
        read_container(tmp_path / "none.pth")


@pytest.mark.parametrize(
    "odd",
    [
        torch.eye(3).to_sparse(),
        torch.zeros(2, device="meta"),
        torch.zeros(2, dtype=torch.complex64),
        torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8),
        torch.zeros(1).expand(10**12),
    ],
)
def test_tensors_whose_numbers_are_not_there_are_refused(tmp_path: Path, odd: torch.Tensor) -> None:
    """The last one has four bytes in its file and would take four terabytes as soon as it is copied."""
    for content in ({"a": torch.ones(1), "b": odd}, odd):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(InputError, match=r"w\.pth.*a tensor of torch.* among the weights"):
            read_container(tmp_path / "w.pth")
    torch.save({"state_dict": {"a": torch.ones(1), "b": odd}, "meta": {}}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w\.pth.*a tensor of torch.* among the weights"):
        read(tmp_path / "w.pth")


def test_damaged_files_and_folders_are_refused_by_name(tmp_path: Path) -> None:
    """The fuzz of benchmarks/fuzzing, some dozen times."""
    for seed in range(40):
        (tmp_path / str(seed)).mkdir()
        assert run(tmp_path / str(seed), random.Random(seed)) in {"ok", "refused"}
