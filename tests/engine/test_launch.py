"""A stage in several processes ends with the exit code that it would have in one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from regionclip.engine.launch import exit_code, launch, sharable
from regionclip.errors import InputError


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([2], 2),
        ([1, 2], 2),
        ([3, 1], 3),
        ([4, 4], 4),
        ([1, 4], 4),
        ([1], 1),
        ([-9], 137),
        ([1, -9], 137),
        ([1, 5], 5),
        ([-15, 3], 3),
    ],
)
def test_code_of_the_process_that_knows_why_counts(codes: list[int], code: int) -> None:
    """A process that lost its neighbour ends with 1 and a traceback; a signal is 128 and its number, as in a shell."""
    assert exit_code(codes) == code


def test_teacher_needs_cuda_to_be_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIONCLIP_DEVICE", "cpu")
    assert not sharable("teacher") and sharable("pretrain")
    monkeypatch.setenv("REGIONCLIP_DEVICE", "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert sharable("teacher")


@pytest.mark.parametrize(
    ("device", "problem"), [("cuda:1", "cuda:1 cannot serve 3 processes"), ("cuda", "3 processes for 2 GPUs")]
)
def test_each_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch, device: str, problem: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("REGIONCLIP_PROCESSES", "3")
    monkeypatch.setenv("REGIONCLIP_DEVICE", device)
    with pytest.raises(InputError, match=problem):
        launch(["pretrain"])


def test_processes_that_are_started_again_do_not_meet_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """tests/recovery/test_elastic.py shows what the setting does."""
    name, seen = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE", []
    monkeypatch.setenv(name, "0")
    monkeypatch.delenv(name)
    monkeypatch.setattr("regionclip.engine.launch.run", lambda arguments: seen.append(os.environ.get(name)))
    monkeypatch.setenv("REGIONCLIP_DEVICE", "cpu")
    assert launch(["pretrain"]) == 0 and seen == ["1"]


def test_two_processes_of_a_stage_end_with_its_code_and_message(tmp_path: Path) -> None:
    """Outside a workspace there is no params.yaml: wrong input, exit code 2."""
    settings = {"REGIONCLIP_PROCESSES": "2", "REGIONCLIP_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "regionclip", "pretrain"],
        cwd=tmp_path, env=os.environ | settings, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr[-3000:]
    assert "regionclip pretrain: params.yaml: the file does not exist" in done.stderr
    assert list(tmp_path.iterdir()) == []
