"""The quarantine report: counts by reason, each record escaped, broken lists named."""

from __future__ import annotations

from pathlib import Path

import pytest

from regionclip.contracts.quarantine_page import quarantine_page, read_rejected
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError


def test_what_was_set_aside_is_listed_and_counted(tmp_path: Path) -> None:
    with Rejects(tmp_path / "coco_rejected.jsonl", 1) as rejects:
        for number, box in ((1, [0, 0, -1, 2]), (2, [0, 0, -3, 2])):
            problem = f"the box has a negative size ({box})"
            rejects.add(InputError(problem, file="a.json", record=f"annotation {number}", key="bbox", mend="mend it"))
    with Rejects(tmp_path / "scenes_rejected.jsonl", 1) as rejects:
        rejects.add(InputError("empty caption", file="c.json", record="<image 3>"))
    records = read_rejected(tmp_path)
    assert records[:2] == read_rejected(tmp_path / "coco_rejected.jsonl", tmp_path / "absent_rejected.jsonl")
    text = quarantine_page(records)
    assert len(records) == 3 and "3 records were set aside" in text
    assert "<tr><td>2</td><td>coco</td><td>the box has a negative size</td></tr>" in text
    assert "&lt;image 3&gt;" in text and "<image 3>" not in text and "None" not in text
    assert "No record was set aside" in quarantine_page([])


@pytest.mark.parametrize("line", ["{", "[]", '{"file": "a"}', "5"])
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "coco_rejected.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match=r"coco_rejected\.jsonl, record line 1: not a rejected record"):
        read_rejected(tmp_path)
