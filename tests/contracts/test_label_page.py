"""The page of label histograms: every bin and concept with its count, names escaped."""

from __future__ import annotations

from regionclip.contracts.label_page import label_page


def test_bins_and_concepts_are_shown_with_their_counts() -> None:
    text = label_page([1, 0, 3, 2], {"star": 3, "<moon>": 2})
    assert "6 regions, of which 5 are kept, with 2 concepts." in text
    assert "<td>0.50 to 0.75</td><td>3</td>" in text and 'max="3" value="2"' in text
    assert "<td>&lt;moon&gt;</td><td>2</td>" in text and "<moon>" not in text


def test_only_the_most_frequent_concepts_are_listed() -> None:
    text = label_page([60], {f"concept {number}": 1 for number in range(60)})
    assert "concept 49<" in text and "concept 50<" not in text and "the first 50" in text
    assert "0 regions" in label_page([0, 0], {})
