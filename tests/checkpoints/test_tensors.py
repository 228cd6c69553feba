"""Equal weights give equal files, which plain safetensors reads."""

from __future__ import annotations

from pathlib import Path

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from regionclip.checkpoints.tensors import save_tensors

TENSORS = {"b": torch.arange(6.0).view(2, 3), "a.x": torch.tensor([1, 2]), "empty": torch.zeros(0, 4)}
TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    """Eight names of metadata have 40320 orders; the library's own writing changes them from call to call."""
    metadata = {f"name{number}": "x" * number for number in range(8)}
    for name in ("first", "second", "third"):
        save_tensors(TENSORS, tmp_path / name, metadata)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(TEXT, TEXT, max_size=5))
def test_tensors_and_metadata_come_back(tmp_path: Path, metadata: dict[str, str]) -> None:
    save_tensors(TENSORS, tmp_path / "file", metadata)
    with safe_open(tmp_path / "file", framework="pt") as file:
        assert (file.metadata() or {}) == metadata
        assert set(file.keys()) == set(TENSORS)
        assert all(torch.equal(file.get_tensor(key), value) for key, value in TENSORS.items())
