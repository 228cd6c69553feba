"""Data Docs: whole pages that ask nothing of the network, an index that names each finding, replaced as a whole."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.contracts.gate import gate
from regionclip.contracts.gx import WARNING, Check, Expect
from regionclip.contracts.pages import label_page, quarantine_page, read_rejected
from regionclip.data.rejects import Rejects
from regionclip.errors import DataCheckFailed, InputError

EVIL = [
    "<img src=http://other.example/x onerror=alert(1)>",
    "</td></table><svg/onload=alert(2)>",
    "<!--",
    "$x ${y} {{ 7 * 7 }} {% raw %}",
    "\"' onmouseover=alert(3) x='",
    "<a href=javascript:alert(4)>x</a><style>*{}</style>",
    "&lt;b&gt;&#60;b&#62;",
    "\ue100script\ue101",
]


def _check(name: str, values: list[float], severity: str = "critical") -> Check:
    table = pd.DataFrame({"file": "<b>.json", "id": range(len(values)), "x": values})
    expectations = [
        Expect("no row", "add one").rows(),
        Expect("too large", "make it smaller", "size", severity).between("x", most=1),
    ]
    return Check(name, table, ("file", "id"), expectations)


class _Needs(HTMLParser):
    """Collects what a page loads and where it leads."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if tag == "script" or tag == "link":
            self.loads.append(tag)
        self.loads += [values["src"]] if "src" in values else []
        self.links += [values["href"]] if tag == "a" else []


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    with pytest.raises(DataCheckFailed):
        gate(
            "stage", [_check("coco boxes", [0.5, 3.0]), _check("scenes", [7.0], WARNING), _check("fine", [0])], tmp_path
        )
    return tmp_path / "data_docs/stage"


def test_pages_load_nothing_and_lead_to_each_other(docs: Path) -> None:
    pages = sorted(path.name for path in docs.iterdir())
    assert pages == ["index.html"]
    for path in docs.iterdir():
        text, needs = path.read_text(), _Needs()
        needs.feed(text)
        assert needs.loads == [] and not re.search(r"url\(|@import|https?://", text), path
        assert {link for link in needs.links if not link.startswith("#")} <= set(pages), path


def test_the_index_gives_verdict_severity_record_and_mend(docs: Path) -> None:
    text = (docs / "index.html").read_text()
    assert "6 expectations, 1 errors, 1 warnings" in text
    rows = re.findall(r"<tr>(.*?)</tr>", text)
    assert ["error" in row and "coco boxes" in row and "make it smaller" in row for row in rows].count(True) == 1
    assert ["warning" in row and "scenes" in row and "x 7.0" in row for row in rows].count(True) == 1
    assert "file &lt;b&gt;.json, id 1, x 3.0" in text and "<b>" not in text, "values are escaped"


def test_the_index_has_each_suite_with_all_its_expectations(docs: Path) -> None:
    text = (docs / "index.html").read_text()
    for place, suite in enumerate(("coco boxes", "scenes", "fine")):
        section = text.split(f'<h2 id="suite-{place}">{suite}</h2>')[1].split("<h2")[0]
        assert "column values to be between" in section and "table row count to be between" in section
        assert section.count("<tr>") == 3 and f'<a href="#suite-{place}">{suite}</a>' in text


def test_an_earlier_site_is_replaced(docs: Path, tmp_path: Path) -> None:
    (docs / "old.html").touch()
    gate("stage", [_check("fine", [0])], tmp_path)
    assert sorted(path.name for path in docs.iterdir()) == ["index.html"]
    assert "1 errors" not in (docs / "index.html").read_text()


def _pages(folder: Path, texts: list[str]) -> dict[str, str]:
    """Every page of a failed gate and the pages beside it, with the texts as file, id, caption, class and reason."""
    table = pd.DataFrame({"file": texts, "id": texts, "caption": texts})
    expectation = Expect(*texts[:2]).among("caption", ["?", *texts[1:]])
    keys = ("file", "record", "key", "reason", "mend")
    named = [f"{number} {text}" for number, text in enumerate((*texts, "\ud83d"))]
    records = [{"set": text, **dict.fromkeys(keys, text)} for text in named]
    more = {"Quarantine": quarantine_page(records), "Labels": label_page([1, 2], {text: 1 for text in texts})}
    with pytest.raises(DataCheckFailed):
        gate("stage", [Check("suite", table, ("file", "id"), [expectation])], folder, more)
    return {path.name: path.read_text("utf-8") for path in (folder / "data_docs/stage").iterdir()}


@settings(max_examples=5)
@given(st.lists(st.text(st.characters(codec="utf-8")) | st.sampled_from(EVIL), min_size=3, max_size=5, unique=True))
def test_no_text_of_the_data_makes_an_element(tmp_path: Path, texts: list[str]) -> None:
    plain = _pages(tmp_path, [f"text {number}" for number, _ in enumerate(texts)])
    pages = _pages(tmp_path, texts)
    assert pages.keys() == plain.keys() and len(pages) == 3
    for name, page in pages.items():
        assert page.count("<") == plain[name].count("<"), "no letter of a text begins an element, whoever parses it"
        assert page.index("Content-Security-Policy") < page.index("</head>") and "default-src 'none'" in page


def test_text_of_the_data_is_read_as_it_was_written(tmp_path: Path) -> None:
    pages = _pages(tmp_path, EVIL)
    for name, text in (("index.html", EVIL[0]), ("quarantine.html", EVIL[4])):
        said_in: list[str] = []
        reader = HTMLParser()
        reader.handle_data = said_in.append
        reader.feed(pages[name])
        assert text in said_in or any(text in one for one in said_in), name


def test_bins_and_concepts_are_shown_with_their_counts() -> None:
    text = label_page([1, 0, 3, 2], {"star": 3, "<moon>": 2})
    assert "6 regions, of which 5 are kept, with 2 concepts." in text
    assert "<td>0.50 to 0.75</td><td>3</td>" in text and 'max="3" value="2"' in text
    assert "<td>&lt;moon&gt;</td><td>2</td>" in text and "<moon>" not in text


def test_only_the_most_frequent_concepts_are_listed() -> None:
    text = label_page([60], {f"concept {number}": 1 for number in range(60)})
    assert "concept 49<" in text and "concept 50<" not in text and "the first 50" in text
    assert "0 regions" in label_page([0, 0], {})


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
