"""Runtime settings come from the environment; a wrong one is named with what is allowed."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip import runtime
from regionclip.errors import InputError


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [key for key in os.environ if key.startswith(("REGIONCLIP_", "LOCAL_")) or key == "RANK"]:
        monkeypatch.delenv(name)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let PyTorch see so many GPUs."""

    def see(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return see


def test_defaults() -> None:
    assert runtime.device() == torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert runtime.precision() == "float32"
    assert 1 <= runtime.workers() <= 8
    assert runtime.processes() == 1 and runtime.torchrun_options() == []
    assert runtime.is_first() and not runtime.inside_group()


@pytest.mark.parametrize(("total", "interval"), [(1, 1), (19, 1), (600, 60), (90_000, 1000)])
def test_resume_points_are_a_tenth_of_a_training_apart(total: int, interval: int) -> None:
    assert runtime.checkpoint_interval(total) == interval


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, gpus: Callable) -> None:
    gpus(4)
    settings = {"DEVICE": "cuda:3", "WORKERS": "0", "PRECISION": "bf16", "CHECKPOINT_INTERVAL": "7"}
    for name, value in settings.items():
        monkeypatch.setenv(f"REGIONCLIP_{name}", value)
    assert runtime.device() == torch.device("cuda", 3)
    assert (runtime.workers(), runtime.precision(), runtime.checkpoint_interval(600)) == (0, "bfloat16", 7)


@pytest.mark.parametrize(("cores", "device", "given", "helpers"), [
    (2, "cpu", None, 0), (2, "cpu", "1", 1), (2, "cuda", None, 2), (16, "cpu", None, 8),
])  # fmt: skip
def test_a_model_on_two_cores_loads_for_itself(
    monkeypatch: pytest.MonkeyPatch, gpus: Callable, cores: int, device: str, given: str | None, helpers: int
) -> None:
    gpus(1)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setenv("REGIONCLIP_DEVICE", device)
    if given:
        monkeypatch.setenv("REGIONCLIP_WORKERS", given)
    assert runtime.loader_workers() == helpers


def test_processes_of_a_group_share_cores_and_have_a_gpu_each(monkeypatch: pytest.MonkeyPatch, gpus: Callable) -> None:
    """16 cores for 4 processes; CUDA device and cores by the numbers that torchrun gives."""
    gpus(4)
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
        ("REGIONCLIP_DEVICE", "meta", runtime.device),
        ("REGIONCLIP_DEVICE", "cpu:1", runtime.device),
        ("REGIONCLIP_DEVICE", "cuda:-1", runtime.device),
        ("REGIONCLIP_WORKERS", "1000000", runtime.workers),
        ("REGIONCLIP_WORKERS", "9" * 40, runtime.workers),
        ("REGIONCLIP_PROCESSES", "1000000", runtime.processes),
        ("LOCAL_WORLD_SIZE", "abc", runtime.workers),
        ("LOCAL_WORLD_SIZE", "0", runtime.workers),
        ("RANK", "first", runtime.check),
        ("LOCAL_RANK", "-1", runtime.check),
        ("WORLD_SIZE", "two", runtime.check),
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


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, gpus: Callable) -> None:
    for there, wanted in ((0, "cuda"), (0, "cuda:0"), (2, "cuda:2")):
        gpus(there)
        monkeypatch.setenv("REGIONCLIP_DEVICE", wanted)
        with pytest.raises(InputError, match=f"PyTorch sees {there} GPUs") as caught:
            runtime.device()
        assert caught.value.key == "REGIONCLIP_DEVICE"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_does_not_work_is_named(monkeypatch: pytest.MonkeyPatch, gpus: Callable) -> None:
    """PyTorch counts it, and no number can be placed there."""
    gpus(1)
    with pytest.raises((InputError, AssertionError)) as caught:
        runtime.check()
    assert "cuda does not work" in str(caught.value) or "CUDA" in str(caught.value)


def test_quotation_marks_of_torchruns_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIONCLIP_TORCHRUN", "--rdzv_endpoint 'host")
    with pytest.raises(InputError, match="No closing quotation") as caught:
        runtime.check()
    assert caught.value.key == "REGIONCLIP_TORCHRUN"


NAMES = ["DEVICE", "WORKERS", "PRECISION", "PROCESSES", "TORCHRUN", "CHECKPOINT_INTERVAL"]
NAMES = [f"REGIONCLIP_{name}" for name in NAMES] + ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"]
VALUES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=9) | st.integers().map(str)
VALUES |= st.sampled_from(["cpu", "cuda", "fp16", "1", "2", "1e3", "inf", "nan", "0x10", "٣", "1_0", " 1"])


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_any_settings_are_read_or_named(given_: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given_.items():
            patch.setenv(name, value)
        try:
            runtime.check()
        except InputError as error:
            assert error.key in given_ and error.mend
        else:
            assert torch.zeros(1, device=runtime.device()).tolist() == [0]
            assert runtime.workers() <= 8 * os.cpu_count() and runtime.processes() <= 8 * os.cpu_count()
