"""Scratch folders are named by what decides the result, and are removed when a stage has finished."""

from __future__ import annotations

from regionclip.checkpoints.scratch import clean_scratch, scratch_folder


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
