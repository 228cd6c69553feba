"""Stage text_bank: a name that several banks have goes through the text encoder once."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from regionclip import artifacts
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.data.layout import data_sets, load_classes
from regionclip.params import load_params
from regionclip.stages import text_bank
from regionclip.text.concepts import ConceptPool
from regionclip.text.prompts import TEMPLATE_SETS, embed_names
from regionclip.text.text_bank import TextBank
from tests.conftest import profile_yaml


def test_each_name_is_embedded_once(
    clip_path: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(profile_yaml("tiny"))
    Path("data").symlink_to(world)
    shutil.copytree(clip_path, artifacts.TEACHER)
    names = {dataset: load_classes(dataset).names for dataset in data_sets()}
    concepts = ("a thing of no class", *names["coco"], *names["lvis"][5:])
    monkeypatch.setattr(ConceptPool, "load", lambda _: SimpleNamespace(concepts=concepts))
    monkeypatch.setattr(text_bank, "_measure", lambda *_: {})
    embedded: list[str] = []
    monkeypatch.setattr(
        text_bank, "embed_names", lambda *given, **more: embedded.extend(given[2]) or embed_names(*given, **more)
    )
    params = load_params()
    counts = text_bank.run(SimpleNamespace(params=params))
    assert sorted(embedded) == sorted({*concepts, *(name for part in names.values() for name in part)})
    assert counts == {f"{key}_names": len(part) for key, part in names.items()} | {
        "concepts_names": len(concepts),
        "teacher": {},
    }
    clip, templates = ClipFolder.open(clip_path), TEMPLATE_SETS[params.text_bank.templates]
    files = {artifacts.class_bank(dataset): part for dataset, part in names.items()}
    for file, part in (files | {artifacts.CONCEPT_BANK: concepts}).items():
        bank = TextBank.load(file)
        assert bank.names == tuple(part)
        wanted = embed_names(clip.model(), clip.tokenizer(), part, templates)
        torch.testing.assert_close(bank.embeddings, wanted, rtol=1e-5, atol=1e-6)
