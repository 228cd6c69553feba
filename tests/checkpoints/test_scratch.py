"""Scratch folders are named by what decides the result, and are removed when a stage has finished."""

from __future__ import annotations

from regionclip.checkpoints.scratch import clean_scratch, scratch_folder, stage_digest


def test_digest_changes_with_params_and_bytes_only(tmp_path):
    """Other params or other bytes give another digest; order and compiled code do not matter."""
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_text("2")
    inputs = [tmp_path / "a", tmp_path / "b"]
    digest = stage_digest({"x": 1, "y": [2.5]}, inputs)
    assert len(digest) == 64 and digest == stage_digest({"y": [2.5], "x": 1}, inputs[::-1])
    assert digest != stage_digest({"x": 1, "y": [2.6]}, inputs)
    (tmp_path / "b" / "__pycache__").mkdir()
    (tmp_path / "b" / "__pycache__" / "c.pyc").write_text("compiled")
    assert digest == stage_digest({"x": 1, "y": [2.5]}, inputs)
    (tmp_path / "b" / "c").write_text("3")
    assert digest != stage_digest({"x": 1, "y": [2.5]}, inputs)


def test_clean_keeps_what_it_is_told_to(tmp_path):
    """Other digests of the stage go, other stages stay; without ``keep`` nothing of the stage is left."""
    folders = {
        name: scratch_folder(*name, root=tmp_path)
        for name in (("rpn", "a" * 64), ("rpn", "b" * 64), ("teacher", "a" * 64))
    }
    for folder in folders.values():
        folder.mkdir(parents=True)
        (folder / "state").write_text("x")
    clean_scratch("rpn", keep="a" * 64, root=tmp_path)
    assert [folder.exists() for folder in folders.values()] == [True, False, True]
    clean_scratch("rpn", root=tmp_path)
    clean_scratch("none", root=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]
