"""The official pairs of TSV files are read; rows that do not fit are named."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from regionclip.data.captions import decode_image, open_captioned_images
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError

TEXTS = ["a moon", '{"captions": ["two stars", "stars"]}', "{a brace", '{"tags": "fish sun"}', "5"]


def _image(i: int) -> str:
    data = io.BytesIO()
    Image.new("RGB", (8 + i, 6), (10, 20, 30)).save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


def _write(file: Path, rows: list[str]) -> None:
    file.write_text("".join(f"{row}\n" for row in rows))


@pytest.fixture
def rows() -> tuple[list[str], list[str]]:
    """Rows of images and of texts with keys k0 to k4; image i is 8 + i pixels wide."""
    return [f"k{i}\t{_image(i)}" for i in range(5)], [f"k{i}\t{text}" for i, text in enumerate(TEXTS)]


@pytest.mark.parametrize(
    "names", [("images.tsv", "text.tsv"), ("0_image.tsv", "0_text.tsv"), ("img.tsv", "caption.tsv")]
)
def test_rows_are_read_in_order(tmp_path, rows, names):
    """Captions and JSON captions are taken; JSON without captions is set aside; images decode from their places."""
    for name, part in zip(names, rows, strict=True):
        _write(tmp_path / name, part)
    with Rejects(tmp_path / "t_rejected.jsonl", 0.2) as rejects:
        source = open_captioned_images(tmp_path, rejects=rejects)
        for records in (list(source), [source.table()[i] for i in range(4)], [source.table()[i] for i in range(4)]):
            assert [(record.key, record.captions) for record in records] == [
                ("k0", ("a moon",)), ("k1", ("two stars", "stars")), ("k2", ("{a brace",)), ("k4", ("5",)),
            ]  # fmt: skip
            assert [decode_image(record.image).size[0] for record in records] == [8, 9, 10, 12]
    assert json.loads((tmp_path / "t_rejected.jsonl").read_text())["record"] == "row 4"
    with pytest.raises(InputError, match="row 4, key 'captions': the key is missing"):
        list(open_captioned_images(tmp_path / names[0]))


def test_rows_that_do_not_fit_are_named(tmp_path, rows):
    """Keys in another order, one file longer than the other and a missing file of texts."""
    images, texts = rows[0][:3], rows[1][:3]
    _write(tmp_path / "images.tsv", images)
    with pytest.raises(InputError, match=r"text\.tsv: the file of texts does not exist"):
        open_captioned_images(tmp_path)
    _write(tmp_path / "text.tsv", [texts[0], texts[2], texts[1]])
    with pytest.raises(InputError, match="row 2: the keys differ .image 'k1', text 'k2'"):
        list(open_captioned_images(tmp_path))
    _write(tmp_path / "text.tsv", texts[:2])
    with pytest.raises(InputError, match="row 3: one file has more rows"):
        list(open_captioned_images(tmp_path))


def test_a_bad_row_does_not_end_the_reading(tmp_path, rows):
    """Latin-1 amid UTF-8, a row without TAB and an image without a text are set aside, the others read."""
    images, texts = rows[0][:5], [b"k0\ta caf\xc3\xa9", b"k1\ta caf\xe9", b"k2\ta star", b"k3\ta fish"]
    images[2] = "k2 no tab"
    _write(tmp_path / "images.tsv", images)
    (tmp_path / "text.tsv").write_bytes(b"\n".join(texts))
    with Rejects(tmp_path / "t_rejected.jsonl", 0.75) as rejects:
        assert [record.key for record in open_captioned_images(tmp_path, rejects=rejects)] == ["k0", "k3"]
    lines = [json.loads(line) for line in (tmp_path / "t_rejected.jsonl").read_text().splitlines()]
    assert [line["record"] for line in lines] == ["row 2", "row 3", "row 5"]
    reasons = ("not UTF-8", "no row of key, TAB", "more rows")
    assert all(words in line["reason"] for words, line in zip(reasons, lines, strict=True))


@pytest.mark.parametrize(("encoding", "words"), [("utf-8-sig", None), ("cp1252", None), ("utf-16", "save the file")])
def test_texts_as_windows_writes_them_are_read_or_refused(tmp_path, rows, encoding, words):
    """A mark is no part of the first key; rows of UTF-16 cannot be told by their bytes."""
    _write(tmp_path / "images.tsv", rows[0][:1])
    (tmp_path / "text.tsv").write_bytes("k0\ta caf\xe9\n".encode(encoding))
    if words is None:
        assert [record.captions for record in open_captioned_images(tmp_path)] == [("a caf\xe9",)]
        return
    with pytest.raises(InputError, match=rf"text\.tsv: its rows.*{words}"):
        list(open_captioned_images(tmp_path))


def test_a_list_that_chooses_rows_is_refused(tmp_path, rows):
    for name, part in zip(("images.tsv", "text.tsv"), rows, strict=True):
        _write(tmp_path / name, part)
    (tmp_path / "text.linelist").write_text("2\n0\n")
    with pytest.raises(InputError, match=r"text\.linelist: a list that chooses rows is not read"):
        open_captioned_images(tmp_path)
