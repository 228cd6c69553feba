"""Runtime settings come from the environment; a wrong one is named with what is allowed."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch

from regionclip import runtime
from regionclip.errors import InputError


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [key for key in os.environ if key.startswith(("REGIONCLIP_", "LOCAL_")) or key == "RANK"]:
        monkeypatch.delenv(name)


def test_defaults() -> None:
    assert runtime.device() == torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert runtime.precision() == "fp32"
    assert 1 <= runtime.workers() <= 8
    assert runtime.processes() == 1 and runtime.torchrun_options() == []
    assert runtime.is_first() and not runtime.inside_group()


@pytest.mark.parametrize(("total", "interval"), [(1, 1), (19, 1), (600, 60), (90_000, 1000)])
def test_resume_points_are_a_tenth_of_a_training_apart(total: int, interval: int) -> None:
    assert runtime.checkpoint_interval(total) == interval


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"DEVICE": "cuda:3", "WORKERS": "0", "PRECISION": "bf16", "CHECKPOINT_INTERVAL": "7"}
    for name, value in settings.items():
        monkeypatch.setenv(f"REGIONCLIP_{name}", value)
    assert runtime.device() == torch.device("cuda", 3)
    assert (runtime.workers(), runtime.precision(), runtime.checkpoint_interval(600)) == (0, "bf16", 7)


@pytest.mark.parametrize(("cores", "device", "given", "helpers"), [
    (2, "cpu", None, 0), (2, "cpu", "1", 1), (2, "cuda", None, 2), (16, "cpu", None, 8),
])  # fmt: skip
def test_a_model_on_two_cores_loads_for_itself(
    monkeypatch: pytest.MonkeyPatch, cores: int, device: str, given: str | None, helpers: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setenv("REGIONCLIP_DEVICE", device)
    if given:
        monkeypatch.setenv("REGIONCLIP_WORKERS", given)
    assert runtime.loader_workers() == helpers


def test_processes_of_a_group_share_cores_and_have_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 cores for 4 processes; CUDA device and cores by the numbers that torchrun gives."""
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert runtime.workers() == 8
    for name, value in {"LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "4", "RANK": "7", "REGIONCLIP_DEVICE": "cuda"}.items():
        monkeypatch.setenv(name, value)
    assert runtime.workers() == 4 and runtime.device() == torch.device("cuda", 3)
    assert runtime.inside_group() and not runtime.is_first()
    monkeypatch.setenv("REGIONCLIP_DEVICE", "cpu")
    assert runtime.device() == torch.device("cpu")


def test_arguments_of_torchrun_are_split_as_a_shell_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIONCLIP_TORCHRUN", "--nnodes 2 --rdzv_endpoint 'host:1'")
    assert runtime.torchrun_options() == ["--nnodes", "2", "--rdzv_endpoint", "host:1"]


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("REGIONCLIP_DEVICE", "gpu", runtime.device),
        ("REGIONCLIP_WORKERS", "two", runtime.workers),
        ("REGIONCLIP_WORKERS", "-1", runtime.workers),
        ("REGIONCLIP_PROCESSES", "0", runtime.processes),
        ("REGIONCLIP_PRECISION", "fp8", runtime.precision),
        ("REGIONCLIP_CHECKPOINT_INTERVAL", "0", lambda: runtime.checkpoint_interval(100)),
    ],
)
def test_wrong_settings_are_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, read: Callable[[], object]
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"'{value}'") as caught:
        read()
    assert caught.value.key == name and caught.value.mend
