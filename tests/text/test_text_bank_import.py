"""Published embedding files become text banks: the right rows for the right names, or a refusal that says why."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from regionclip.errors import InputError
from regionclip.files import sha256_file
from regionclip.text.class_names import COCO_80, COCO_ALL65, COCO_BASE, COCO_NOVEL
from regionclip.text.text_bank import TextBank, import_bank, read_embeddings, read_names


def _rows(count: int, width: int = 4) -> torch.Tensor:
    return torch.arange(1.0, count * width + 1).reshape(count, width)


def _pth(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def _lvis(path: Path, count: int, rare: set[int]) -> Path:
    """A JSON of ``count`` categories, ids from 1, written in another order."""
    categories = [
        {"id": number, "name": f"bat_(animal)_{number}", "frequency": "r" if number in rare else "f"}
        for number in range(1, count + 1)
    ]
    path.write_text(json.dumps({"categories": categories[::-1], "images": []}))
    return path


@pytest.mark.parametrize(
    ("names", "wanted"),
    [("coco48", COCO_BASE), ("coco17", COCO_NOVEL), ("coco65", COCO_ALL65), ("coco80", COCO_80)],
)
def test_coco_names_are_built_in(tmp_path: Path, names: str, wanted: tuple[str, ...]) -> None:
    rows = _rows(len(wanted))
    bank = import_bank(_pth(tmp_path / "emb.pth", rows), names)
    assert bank.names == wanted and torch.equal(bank.embeddings, rows)


def test_imported_bank_is_saved_and_says_that_its_origin_is_unknown(tmp_path: Path) -> None:
    path = _pth(tmp_path / "coco_65_cls_emb.pth", _rows(65))
    import_bank(path, "coco65").save(tmp_path / "bank.safetensors")
    bank = TextBank.load(tmp_path / "bank.safetensors")
    assert bank.templates == () and bank.weights_sha256 == "unknown"
    assert "coco_65_cls_emb.pth" in bank.text_model and sha256_file(path) in bank.text_model
    with pytest.raises(InputError, match="built with weights unknown, wanted aaaaaaaaaaaa"):
        bank.require(weights_sha256="a" * 64)


def test_both_spellings_and_other_precisions(tmp_path: Path) -> None:
    np.save(tmp_path / "emb.npy", _rows(3).numpy().astype(np.float16))
    assert torch.equal(read_embeddings(tmp_path / "emb.npy"), _rows(3))
    read = read_embeddings(_pth(tmp_path / "emb.pth", _rows(3).double()))
    assert torch.equal(read, _rows(3)) and read.dtype == torch.float32


def test_concept_pools_are_read_without_their_counts(tmp_path: Path) -> None:
    """The official text format, header-less `lemma,count`; commas of a name itself stay."""
    (tmp_path / "nouns.txt").write_text("man,12345\nhot dog , 7\nmotor-bike\npepper, bell\n", encoding="utf-8")
    assert read_names(tmp_path / "nouns.txt", 4) == ("man", "hot dog", "motor-bike", "pepper, bell")


def test_lvis_names_are_cleaned_and_in_the_order_of_ids(tmp_path: Path) -> None:
    source = _lvis(tmp_path / "lvis.json", 3, rare={2})
    assert read_names(source, 3) == ("bat animal 1", "bat animal 2", "bat animal 3")


def test_as_many_rows_as_common_categories_mean_these(tmp_path: Path) -> None:
    """lvis_866_base_cls_emb.pth with the JSON of all 1203; 337 are rare."""
    source = _lvis(tmp_path / "lvis.json", 1203, rare=set(range(1, 338)))
    bank = import_bank(_pth(tmp_path / "base.pth", _rows(866)), source)
    assert len(bank) == 866 and bank.names[0] == "bat animal 338"
    assert len(import_bank(_pth(tmp_path / "all.pth", _rows(1203)), source)) == 1203


def test_65_rows_for_1203_names_are_refused_with_both_numbers(tmp_path: Path) -> None:
    source = _lvis(tmp_path / "lvis.json", 1203, rare={1})
    path = _pth(tmp_path / "coco_65_cls_emb.pth", _rows(65))
    with pytest.raises(InputError, match="65 rows of embeddings for the 1203 names of .*lvis.json") as caught:
        import_bank(path, source)
    assert caught.value.file == path and caught.value.mend


def test_a_bank_of_65_for_a_consumer_of_1203_is_refused_with_both_numbers(tmp_path: Path) -> None:
    bank = import_bank(_pth(tmp_path / "emb.pth", _rows(65)), "coco65")
    with pytest.raises(InputError, match="got 65 names, wanted 1203"):
        bank.require(names=[f"name {number}" for number in range(1203)])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (torch.ones(4), r"shape \(4,\), wanted floats of shape \(K, D\)"),
        (torch.ones(65, 4, 1), r"shape \(65, 4, 1\)"),
        (torch.ones(0, 4), r"shape \(0, 4\)"),
        (torch.ones(65, 4, dtype=torch.int64), r"torch.int64 of shape \(65, 4\)"),
        (torch.ones(1, 4), "1 rows of embeddings for the 65 names"),
        (torch.full((65, 4), float("nan")), "not finite"),
        ({"a": torch.ones(65, 4), "b": torch.ones(1)}, "holds 2 named tensors"),
    ],
    ids=["one axis", "three axes", "empty", "integers", "one row", "not finite", "weights"],
)
def test_what_would_be_broadcast_or_is_no_array_is_refused(tmp_path: Path, content: object, problem: str) -> None:
    """A plain copy into a classifier takes (D,) and (1, D) for all classes."""
    path = _pth(tmp_path / "emb.pth", content)
    with pytest.raises(InputError, match=problem) as caught:
        import_bank(path, "coco65")
    assert caught.value.file == path


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("names.txt", b"man,3\n\nboat,2\n", "record 2: the line has no name"),
        ("names.txt", b"man\n,2\n", "record 2: the line has no name"),
        ("names.txt", b"", "the line has no name"),
        ("names.txt", b"\xff\xfea", "not text"),
        ("names.json", b"[]", "no list of categories"),
        ("names.json", b'{"categories": [{"id": 1}]}', "no list of categories"),
        ("names.json", b"{", "not JSON"),
        ("coco66", None, "no such file or list of names.*coco48, coco17, coco65, coco80"),
    ],
)
def test_unreadable_names_are_refused(tmp_path: Path, name: str, content: bytes | None, problem: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=problem):
        read_names(tmp_path / name, 2)


def test_names_given_twice_are_refused(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("man\nman\n")
    with pytest.raises(InputError, match="record man, key 'names': the name occurs twice"):
        import_bank(_pth(tmp_path / "emb.pth", _rows(2)), tmp_path / "names.txt")
