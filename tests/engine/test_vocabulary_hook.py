"""VocabularyHook: the classifier holds the classes of the data at hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from torch import nn

from regionclip.engine.exported import VocabularyHook
from regionclip.errors import InputError
from regionclip.models.region_encoder import part_configs
from regionclip.models.region_text_pretrainer import RegionTextPretrainer
from regionclip.models.text_embedding_classifier import TextEmbeddingClassifier
from regionclip.text.text_bank import TextBank

NAMES = ("ant", "bee", "cat", "dog")


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    """Four names; the embedding of the n-th is n in every place, from 1 on."""
    embeddings = torch.arange(1.0, 5.0)[:, None].expand(4, 3).contiguous()
    TextBank(NAMES, embeddings, ("{}.",), "test", "0" * 64).save(tmp_path / "bank.safetensors")
    return tmp_path / "bank.safetensors"


def _runner(model: nn.Module, **classes: tuple[str, ...]) -> Any:
    """A runner with a data loader of ``classes`` for each of train and test that is given."""
    loaders = {
        f"{part}_dataloader": SimpleNamespace(dataset=SimpleNamespace(metainfo={"classes": names}))
        for part, names in classes.items()
    }
    return SimpleNamespace(model=model, **loaders)


def _detector() -> nn.Module:
    model = nn.Module()
    model.roi_head = nn.Module()
    model.roi_head.bbox_head = nn.Module()
    model.roi_head.bbox_head.fc_cls = TextEmbeddingClassifier(3, 2 + 1)
    return model


def _rows(model: nn.Module) -> list[float]:
    return model.roi_head.bbox_head.fc_cls.embeddings[:, 0].tolist()


def test_training_vocabulary(bank: Path) -> None:
    """Rows follow the data set's classes in its order."""
    model = _detector()
    VocabularyHook(str(bank)).before_train(_runner(model, train=("dog", "ant")))
    assert _rows(model) == [4, 1]


def test_test_vocabulary(bank: Path) -> None:
    """A test gets the classes of its own data set."""
    hook, model = VocabularyHook(str(bank)), _detector()
    hook.before_test(_runner(model, test=NAMES))
    assert _rows(model) == [1, 2, 3, 4]


def test_class_that_the_bank_lacks(bank: Path) -> None:
    """The message names the bank and the class."""
    hook = VocabularyHook(str(bank))
    with pytest.raises(InputError, match=r"bank\.safetensors, record cow.*no such name"):
        hook.before_test(_runner(_detector(), test=("ant", "cow")))


def test_bank_of_another_width(tmp_path: Path) -> None:
    """Embeddings of RN50x4 (640 wide, say) do not go into a detector of RN50."""
    TextBank(NAMES, torch.ones(4, 5), ("{}.",), "test", "0" * 64).save(tmp_path / "wide.safetensors")
    hook = VocabularyHook(str(tmp_path / "wide.safetensors"))
    with pytest.raises(InputError, match=r"shape \(4, 5\) do not fit region embeddings of width 3"):
        hook.before_test(_runner(_detector(), test=NAMES))


def _pretrainer() -> RegionTextPretrainer:
    parts = part_configs({"layers": [1, 1, 1, 1], "width": 8, "image_size": 64, "head_width": 32}, 3)
    return RegionTextPretrainer(student=ConfigDict(type="RegionEncoder", **parts))


def test_pretrainer_gets_the_whole_bank(bank: Path) -> None:
    """The concept bank is the one whose hash the pseudo labels carry."""
    model, loaded = _pretrainer(), TextBank.load(bank)
    runner = _runner(model, train=())
    runner.train_dataloader.dataset.metainfo = {"bank_sha256": loaded.sha256}
    VocabularyHook(str(bank)).before_train(runner)
    torch.testing.assert_close(model.concepts, loaded.embeddings)


def test_pseudo_labels_of_another_bank(bank: Path) -> None:
    """Their indices would mean other concepts, so the training does not start."""
    runner = _runner(_pretrainer(), train=())
    runner.train_dataloader.dataset.metainfo = {"bank_sha256": "f" * 64}
    with pytest.raises(InputError, match="index the concepts of another bank"):
        VocabularyHook(str(bank)).before_train(runner)
