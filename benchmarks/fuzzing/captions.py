"""Caption files of every form, with odd values and damaged bytes: each record is read or named, each image once."""

from __future__ import annotations

import base64
import io
import json
import random
import re
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.fuzzing.mutation import mutated
from regionclip.contracts.captions import read_captioned
from regionclip.data.captions import CaptionedImages, CaptionTable, open_captioned_images, write_caption_source
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError
from regionclip.params.data import CaptionFiles

ENCODINGS = ("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1", "gbk")
VALUES = (
    None, True, 0, -1, 1.0, 1.5, float("nan"), float("inf"), 2**63 - 1, 2**63, 10**30, 10**400, "", " ", "1", "01",
    "-0", [], [1], {}, {"raw": "a"}, "\ud83d", "a\ud83d", "\x00", "a" * 300, "é" * 200, "\x1b[31m", "NaN",
)  # fmt: skip
NAMES = (
    "0.jpg", "1.jpg", "2.jpg", "1.jpg", "é.jpg", "./1.jpg", "no.jpg", "empty.jpg", "folder", "1.jpg/", "../1.jpg",
    "a" * 300, "/etc/passwd", "C:\\1.jpg", "..\\1.jpg", "\x00.jpg", "\ud800.jpg", "x/" * 2100, "", "loop",
    "1.jpg/2.jpg",
)  # fmt: skip
CAPTIONS = (
    "a star", " two stars\r\n", "", "  ", "\ud83d", "a half \ud83d", "\U0001f600 smiles", "caf\xe9", "猫", "a\x07b",
    "a\x00b", "x" * 2000, "\ufffd", '"quoted" \\ud83d \\n', "\u2028", "{", '{"captions": 5}', "5", None, 5,
    ["a star"], {"raw": "a"},
)  # fmt: skip
KEYS = ("0", "00001", "é", "x/y", "a" * 90, "b/" * 40 + "c", "\udcff", " ")
LINES = (
    "", "   ", "[" * 100_000, "[" * 900 + "]" * 900, '{"a":' * 5000, "9" * 5000, "null", "NaN", "\ufeff", "\x00" * 40,
    "{}",
    '{"image": "1.jpg", "caption": "a", "caption": "b"}', '{"image": "1.jpg", "caption": "a", "n": ' + "9" * 5000 + "}",
    '{"image": "1.jpg", "caption": "\\ud83d"}', '{"image": "\\ud800.jpg", "caption": "a"}', "x" * 100_000, "'a'",
)  # fmt: skip


def run(folder: Path, rng: random.Random) -> str:
    """Make one source, read it in every way, and account for its records.

    Returns:
        ``ok``, ``set aside`` or ``refused``.

    Raises:
        AssertionError: A record is lost, or what is read is not sound.
    """
    images = folder / "images"
    images.mkdir()
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "JPEG")
    for name in ("0.jpg", "1.jpg", "2.jpg", "é.jpg"):
        (images / name).write_bytes(content.getvalue())
    (images / "empty.jpg").touch()
    (images / "folder").mkdir()
    (images / "loop").symlink_to("loop")
    path, account = rng.choice((_coco, _coco, _karpathy, _jsonl, _jsonl, _tar, _tsv))(folder, rng, content.getvalue())
    if rng.random() < 0.3:
        path.write_bytes(mutated(path.read_bytes(), rng))
        account = None
    try:
        with Rejects(folder / "x_rejected.jsonl", 1.0) as rejects:
            source = open_captioned_images(path, images, rejects)
            raw = list(source)
            if account is not None:
                _check_account(account, {record.key for record in raw}, source)
            table = source.table()
            _check(table, images, source)
            again = open_captioned_images(path, images, rejects).table()
            assert again.columns.equals(table.columns), "a second reading gives another table"
            read_captioned(source, None)
            write_caption_source(folder, CaptionFiles(file=str(path), images=str(images)), rejects)
    except InputError as error:
        assert error.file is not None and error.mend, f"no file or mend in: {error}"
        _strict(path, images)
        return "refused"
    _strict(path, images)
    return "set aside" if _lines(folder / "x_rejected.jsonl") else "ok"


def _strict(path: Path, images: Path) -> None:
    try:
        open_captioned_images(path, images).table()
    except InputError as error:
        assert error.file is not None and error.mend, f"no file or mend in: {error}"


def _lines(rejects: Path) -> list[dict[str, str]]:
    if not rejects.exists():
        return []
    lines = [json.loads(line) for line in rejects.read_text(encoding="utf-8").split("\n")[:-1]]
    for line in lines:
        assert line["reason"] and line["mend"] and line["file"], line
        json.dumps(line, ensure_ascii=False).encode()
    return lines


def _check(table: CaptionTable, images: Path, source: CaptionedImages) -> None:
    ids = table.ids.to_pylist()
    assert len(set(ids)) == len(ids), "an id is there twice"
    for record in (table[row] for row in range(len(table))):
        assert record.captions and all(caption == caption.strip() != "" for caption in record.captions)
        file = record.image if isinstance(record.image, Path) else record.image.file
        assert file.is_file() and (file == source.path or file.resolve().is_relative_to(images.resolve()))
    assert list(source.iter_captions()) == [caption for row in range(len(table)) for caption in table[row].captions]


Account = Iterable[tuple[set[str], set[str]]]
"""Of each record in a file: the names that a reject may give it, and the keys of images that it may be read as."""


def _check_account(account: Account, keys: set[str], source: CaptionedImages) -> None:
    named, rejected = {str(error.record) for error in source.rejected}, source.skipped["blank line"]
    for record in account:
        # Half a surrogate pair is read as a lost letter, or was written as one here.
        names, read = (
            texts | {re.sub("[\ud800-\udfff]", lost, text) for text in texts for lost in "\ufffd?"} for texts in record
        )
        if names == {"blank line"}:
            rejected -= 1
            continue
        assert names & named or read & keys, f"a record is lost: {names}, {read}; kept {keys}, set aside {named}"
    assert rejected == 0, "blank lines are counted wrongly"


def _value(rng: random.Random, sound: Any, odd: tuple[Any, ...]) -> Any:
    draw = rng.random()
    return sound if draw < 0.8 else rng.choice(odd if draw < 0.95 else VALUES)


def _broken(rng: random.Random, record: dict[str, Any]) -> Any:
    """Take a key out of a record, or replace it as a whole, once in fifteen times."""
    if rng.random() < 0.04:
        return rng.choice(VALUES)
    if record and rng.random() < 0.03:
        record.pop(rng.choice(list(record)))
    return record


def _encoded(text: str, rng: random.Random) -> tuple[bytes, bool]:
    """Return a text in one of the encodings, and whether it is one that can tell all its letters."""
    encoding = rng.choice(ENCODINGS) if rng.random() < 0.3 else "utf-8"
    try:
        return text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "strict"), encoding != "gbk"
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace"), True


def _json(rng: random.Random, value: Any) -> str:
    return json.dumps(value, ensure_ascii=rng.random() < 0.7)


def _key(value: Any) -> set[str]:
    return {str(value)}


def _coco(folder: Path, rng: random.Random, _: bytes) -> tuple[Path, Account]:
    ids = [_value(rng, i, (0, "0", "1", "01", 1.0, True)) for i in range(rng.randint(0, 5))]
    pictures = [
        _broken(rng, {"id": i, "file_name": _value(rng, f"{rng.randrange(3)}.jpg", NAMES), "width": 8}) for i in ids
    ]
    captions = [
        _broken(
            rng,
            {
                "image_id": _value(rng, rng.choice(ids) if ids else 0, (0, "0", "1", 99)),
                "caption": _value(rng, rng.choice(CAPTIONS[:2]), CAPTIONS),
            },
        )
        for _ in range(rng.randint(0, 8))
    ]
    content = {"images": pictures, "annotations": captions, "info": rng.choice(VALUES)}
    account = []
    for part, records, key in (("images", pictures, "id"), ("annotations", captions, "image_id")):
        for number, record in enumerate(records):
            known = str(record[key]) if isinstance(record, dict) and key in record else ""
            account.append(({f"{part}[{number}]", f"image {known}"}, {known}))
    path = folder / "c.json"
    content, _ = _encoded(_json(rng, _broken(rng, content)), rng)
    path.write_bytes(content)
    return path, account


def _karpathy(folder: Path, rng: random.Random, _: bytes) -> tuple[Path, Account]:
    records, account = [], []
    for number in range(rng.randint(0, 6)):
        sentences = [
            _broken(rng, {"raw": _value(rng, "a star", CAPTIONS), "tokens": []}) for _ in range(rng.randint(0, 3))
        ]
        split = _value(rng, rng.choice(["train", "restval", "val"]), (["train"], None, "Train"))
        record = {"filename": _value(rng, f"{number % 3}.jpg", NAMES), "split": split, "sentences": sentences}
        if rng.random() < 0.2:
            record["filepath"] = _value(rng, "", NAMES)
        record = _broken(rng, record)
        records.append(record)
        chosen = record.get("split") if isinstance(record, dict) else None
        if not isinstance(chosen, str) or chosen in ("train", "restval"):
            name = record.get("filename") if isinstance(record, dict) else None
            account.append(({f"images[{number}]"}, {str(name), str(name).strip("./")}))
    path = folder / "k.json"
    content = {"images": records, "dataset": "x"}
    path.write_bytes(_encoded(_json(rng, content) + ('"sentences"' if rng.random() < 0.01 else ""), rng)[0])
    # Without a sentence the file is told for COCO's captions, which it has none of.
    return path, account


def _jsonl(folder: Path, rng: random.Random, _: bytes) -> tuple[Path, Account]:
    lines, account = [], []
    for number in range(1, rng.randint(2, 9)):
        if rng.random() < 0.1:
            line, name = rng.choice(LINES), "1.jpg"
        else:
            name = _value(rng, f"{rng.randrange(3)}.jpg", NAMES)
            caption = _value(rng, "a star", CAPTIONS)
            record = {"image": name, "caption": caption}
            if rng.random() < 0.3:
                record = {"image": name, "captions": _value(rng, [caption, "a star"], VALUES)}
            line = _json(rng, _broken(rng, record))
        lines.append(line)
        account.append(({"blank line"} if line.strip() == "" else {f"line {number}"}, {str(name)}))
    end = rng.choice(["\n", "\n", "\r\n"])
    # Behind the last end of a line there is no blank line.
    last = end if not lines[-1].strip() else rng.choice(["", end])
    content, whole = _encoded(end.join(lines) + last, rng)
    path = folder / "c.jsonl"
    path.write_bytes(content)
    return path, account if whole and "\ufeff" not in lines else None


def _tar(folder: Path, rng: random.Random, picture: bytes) -> tuple[Path, Account]:
    path, account, form = (
        folder / "s.tar",
        [],
        rng.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT]),
    )
    with tarfile.open(path, "w", format=form) as tar:
        for number in range(rng.randint(0, 5)):
            key = _value(rng, f"{number:05d}", ("0", "00001", "é", "x/y", "a" * 90, "b/" * 40 + "c", "\udcff", " "))
            if not isinstance(key, str) or "\0" in key or not key.strip() or len(key) > 95:
                key = "k"
            parts = {"jpg": picture, "txt": _value(rng, "a star", CAPTIONS)}
            if rng.random() < 0.4:
                text = rng.choice((*LINES, '{"caption": "a star"}', '{"captions": ["a star", 5]}', '{"captions": {}}'))
                parts = {rng.choice(["jpg", "png", "gif"]): picture, "json": text}
            for suffix, content in list(parts.items()):
                if rng.random() < 0.05:
                    continue
                data = content if isinstance(content, bytes) else _encoded(str(content), rng)[0]
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                if rng.random() < 0.03:
                    member.type, member.linkname = rng.choice([tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE]), "x"
                try:
                    tar.addfile(member, io.BytesIO(data))
                except (ValueError, UnicodeEncodeError):
                    continue
    with tarfile.open(path) as tar:
        for member in tar:
            key = member.name.rsplit(".", 1)[0]
            if member.isreg():
                account.append(({key, member.name}, {key}))
    return path, account


def _tsv(folder: Path, rng: random.Random, picture: bytes) -> tuple[Path, Account]:
    images, texts, account = [], [], []
    for number in range(rng.randint(0, 5)):
        key = _value(rng, f"k{number}", ("k0", "é", "", "a" * 300, "0", "00"))
        key = key.replace("\0", "").replace("\n", "") if isinstance(key, str) else "k"
        cell = _value(rng, rng.choice(["a star", '{"captions": ["a star"]}']), (*CAPTIONS, *LINES))
        images.append(f"{key}\t{_value(rng, base64.b64encode(picture).decode(), ('!', '', '====', 'é'))}")
        other = key if rng.random() < 0.95 else "other"
        texts.append(f"{other}\t{cell}".replace("\n", " "))
        account.append(({f"row {number + 1}"}, {key}))
    if rng.random() < 0.1:
        texts.append("more\ta star")
        account.append(({f"row {len(texts)}"}, set()))
    files = {"images": images, "text": texts}
    for name, rows in files.items():
        content = "".join(f"{row}\n" for row in rows)
        data = content.encode("utf-8", "surrogatepass") if rng.random() < 0.9 else _encoded(content, rng)[0]
        (folder / f"{name}.tsv").write_bytes(data)
    return folder / "images.tsv", account
