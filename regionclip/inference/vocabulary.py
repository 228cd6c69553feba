"""What is looked for: names, phrases, what is only background, embeddings and example pictures; embedded once."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.containers import read_container
from regionclip.errors import InputError
from regionclip.inference.sources import Example
from regionclip.text.prompts import TEMPLATE_SETS, embed_names
from regionclip.text.text_bank import TextBank, read_names

_KEPT_TEXTS, _KEPT_VOCABULARIES = 100_000, 64
_AT_A_TIME = 256  # texts between two steps of the progress bar
_LONG = 1024  # texts from which on there is one
_ONE_NAME = re.compile(r'\s*(?:"([^"]*)"\s*|([^,]*))(?:,|$)')
_ORIGIN = "teacher_sha256"  # what the student's file says of the CLIP whose text tower it has


Meaning = str | Example | NDArray[np.floating] | Tensor
Names = "Sequence[str] | Mapping[str, Meaning | Sequence[Meaning]] | TextBank | Path | Vocabulary"


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Names and what they mean to one detector.

    Attributes:
        names: K names.
        embeddings: (rows, D) float32, on the detector's device.
        owners: (rows,) the name of each row, -1 for background; None if there is one row a name and no background.
        clip_sha256: The CLIP that embedded them.
    """

    names: tuple[str, ...]
    embeddings: Tensor
    owners: Tensor | None
    clip_sha256: str


def split_names(text: str) -> list[str]:
    """Split names at commas; one in double quotes keeps its own. What stands between two commas may be nothing."""
    names, place = [], 0
    while place <= len(text):
        found = _ONE_NAME.match(text, place)
        names.append((found[1] if found[1] is not None else found[2]).strip())
        place = found.end() + (found.end() == len(text) and not found[0].endswith(","))
    return names


class Vocabularies:
    """Makes vocabularies with a CLIP's text tower and keeps them.

    Args:
        clip: The CLIP.
        templates: Key of `TEMPLATE_SETS`.
        device: Where the text tower works.
        embed_examples: Gives the embedding (D,) of example pictures, comparable with those of texts.
    """

    def __init__(
        self,
        clip: ClipFolder,
        templates: str,
        device: torch.device,
        embed_examples: Callable[[Sequence[Example]], Tensor],
    ) -> None:
        self._clip, self._device, self._embed_examples = clip, device, embed_examples
        self._templates = TEMPLATE_SETS[templates]
        self._text, self._tokenizer = clip.model().to(device), clip.tokenizer()
        # Only the text tower is used.
        self._text.visual = torch.nn.Identity()
        self._texts: dict[str, Tensor] = {}
        self._kept: dict[Any, Vocabulary] = {}

    def __call__(self, names: Names, background: Sequence[str] = ()) -> Vocabulary:
        """Return the vocabulary of these names; see `RegionCLIP.vocabulary`.

        Raises:
            InputError: There is no name, one stands twice or is empty, or a value is of another type or width.
        """
        if isinstance(names, Vocabulary):
            if names.clip_sha256 != self._clip.weights_sha256:
                problem, mend = "the vocabulary was made by another model", "make it with this model's `vocabulary`"
                raise InputError(problem, key="names", mend=mend)
            if not background:
                return names
            problem, mend = "background beside a finished vocabulary", "give it to `vocabulary` instead"
            raise InputError(problem, key="background", mend=mend)
        if isinstance(names, (str, Path)) and Path(names).is_file():
            file = Path(names)
            names = TextBank.load(file) if file.suffix == ".safetensors" else list(read_names(file, rows=-1))
        if isinstance(names, TextBank):
            self._require_own(names)
            names = dict(zip(names.names, names.embeddings, strict=True))
        meanings = _meanings(names)
        _require_texts(background, "background")
        key = (tuple((name, *found) for name, found in meanings.items()), tuple(background))
        lasting = all(isinstance(one, str) for found in meanings.values() for one in found)
        if lasting and key in self._kept:
            self._kept[key] = self._kept.pop(key)
            return self._kept[key]
        made = self._make(meanings, background)
        if lasting:
            self._kept[key] = made
            if len(self._kept) > _KEPT_VOCABULARIES:
                self._kept.pop(next(iter(self._kept)))
        return made

    def _make(self, meanings: Mapping[str, Sequence[Meaning]], background: Sequence[str]) -> Vocabulary:
        texts = [one for found in meanings.values() for one in found if isinstance(one, str)]
        known, rows, owners = self._embedded([*texts, *background]), [], []
        for place, (name, found) in enumerate(meanings.items()):
            if examples := [one for one in found if isinstance(one, Example)]:
                rows.append(self._embed_examples(examples).cpu())
            rows += [known[one] for one in found if isinstance(one, str)]
            rows += [self._given(one, name) for one in found if not isinstance(one, (str, Example))]
            owners += [place] * (len(rows) - len(owners))
        rows += [known[text] for text in background]
        owners += [-1] * len(background)
        plain = owners == list(range(len(meanings)))
        table, sums = torch.stack(rows).to(self._device), None if plain else torch.tensor(owners, device=self._device)
        return Vocabulary(tuple(meanings), table, sums, self._clip.weights_sha256)

    def _embedded(self, texts: Sequence[str]) -> dict[str, Tensor]:
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if len(self._texts) + len(new) > _KEPT_TEXTS:
            self._texts.clear()
            new = list(dict.fromkeys(texts))
        starts = track(range(0, len(new), _AT_A_TIME), description="names", disable=len(new) < _LONG, transient=True)
        for start in starts:
            part = new[start : start + _AT_A_TIME]
            rows = embed_names(self._text, self._tokenizer, part, self._templates, device=self._device)
            self._texts.update(zip(part, rows, strict=True))
        if new and sys.platform == "linux":
            # Else glibc holds what the text tower used: a service whose clients choose the names grows by 1 MB a name.
            getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
        return {text: self._texts[text] for text in texts}

    def _given(self, embedding: Any, name: str) -> Tensor:
        row, width = torch.as_tensor(embedding).float().cpu(), self._clip.model_cfg["embed_dim"]
        if row.shape != (width,) or not row.isfinite().all() or not row.any():
            problem = f"an embedding of shape {tuple(row.shape)}, wanted ({width},), finite and not all zeros"
            raise InputError(problem, record=name, key="names", mend="embed it with this model's text encoder")
        return row

    def _require_own(self, bank: TextBank) -> None:
        bank.require(width=self._clip.model_cfg["embed_dim"])
        # The student keeps the text tower of its teacher, which made the banks of its workspace.
        metadata = getattr(read_container(self._clip.weights), "metadata", {})
        if bank.weights_sha256 not in ("unknown", metadata.get(_ORIGIN)):
            bank.require(weights_sha256=self._clip.weights_sha256)


def _meanings(names: Any) -> dict[str, tuple[Meaning, ...]]:
    """Return what each name means: its own text, or what was given for it."""
    if isinstance(names, Mapping):
        found = {name: _several(value, name) for name, value in names.items()}
    elif isinstance(names, (list, tuple)):
        found = {name: (name,) for name in names if isinstance(name, str)}
    else:
        problem = f"a {type(names).__name__} was given"
        mend = "give a list of texts, what each name means, a text bank, or a file of names"
        raise InputError(problem, key="names", mend=mend)
    _require_texts(list(names), "names")
    if not found:
        raise InputError("there is no name", key="names", mend="give each thing to look for once")
    return found


def _several(value: Any, name: str) -> tuple[Meaning, ...]:
    several = isinstance(value, (list, tuple)) and not isinstance(value, Example)
    found = tuple(value) if several else (value,)
    for part in found:
        if isinstance(part, str) and not part.strip():
            raise InputError("an empty phrase", record=name, key="names", mend="leave it out")
    if not found or not all(isinstance(part, (str, Example, Tensor, np.ndarray)) for part in found):
        problem = f"{f'a {type(value).__name__}' if found else 'nothing'} stands for the name"
        mend = "give phrases, examples (`Example(picture, box)`) or embeddings"
        raise InputError(problem, record=str(name), key="names", mend=mend)
    return found


def _require_texts(texts: Any, key: str) -> None:
    if not isinstance(texts, (list, tuple)):
        raise InputError(f"a {type(texts).__name__} was given", key=key, mend="give a list of texts")
    seen: set[str] = set()
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"a {type(text).__name__} was given", key=f"{key}.{place}", mend="give a text")
        if not text.strip():
            raise InputError("an empty name", key=f"{key}.{place}", mend="leave it out")
        if text in seen:
            problem, mend = f"the name stands twice: {text!r:.80}", "give each thing to look for once"
            raise InputError(problem, key=key, mend=mend)
        seen.add(text)
