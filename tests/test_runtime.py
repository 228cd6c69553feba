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
    for name in [key for key in os.environ if key.startswith("REGIONCLIP_")]:
        monkeypatch.delenv(name)


def test_defaults() -> None:
    assert runtime.device() == torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert runtime.precision() == "fp32"
    assert 1 <= runtime.workers() <= 8


@pytest.mark.parametrize(("total", "interval"), [(1, 1), (19, 1), (600, 60), (90_000, 1000)])
def test_resume_points_are_a_tenth_of_a_training_apart(total: int, interval: int) -> None:
    assert runtime.checkpoint_interval(total) == interval


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"DEVICE": "cuda:3", "WORKERS": "0", "PRECISION": "bf16", "CHECKPOINT_INTERVAL": "7"}
    for name, value in settings.items():
        monkeypatch.setenv(f"REGIONCLIP_{name}", value)
    assert runtime.device() == torch.device("cuda", 3)
    assert (runtime.workers(), runtime.precision(), runtime.checkpoint_interval(600)) == (0, "bf16", 7)


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("REGIONCLIP_DEVICE", "gpu", runtime.device),
        ("REGIONCLIP_WORKERS", "two", runtime.workers),
        ("REGIONCLIP_WORKERS", "-1", runtime.workers),
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
