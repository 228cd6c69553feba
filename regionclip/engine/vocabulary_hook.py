"""VocabularyHook: gives a model the text embeddings of the classes that it is about to train on or be tested on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from regionclip.errors import InputError
from regionclip.models.region_text_pretrainer import RegionTextPretrainer
from regionclip.models.text_embedding_classifier import TextEmbeddingClassifier
from regionclip.text.text_bank import TextBank


@HOOKS.register_module()
class VocabularyHook(Hook):
    """Pick the rows of a text bank that the data set's ``classes`` name, and make them the detector's vocabulary.

    It works before a training and before a test. `RegionTextPretrainer` gets the whole bank, the concepts that its
    pseudo labels index.

    Args:
        bank: Path of the text bank, which holds at least the classes of the data sets.

    Raises:
        InputError: The bank lacks a class, has another width than the model, or is not the one that the pseudo labels
            were made with.
    """

    def __init__(self, bank: str) -> None:
        self.bank = TextBank.load(bank)

    def before_train(self, runner: Runner) -> None:
        """Set the vocabulary of the training data, or the concept bank."""
        model, metainfo = _model(runner), runner.train_dataloader.dataset.metainfo
        if isinstance(model, RegionTextPretrainer):
            self._require_labels_of_this_bank(metainfo)
            model.set_concepts(self.bank.embeddings)
        else:
            self._set(model, metainfo["classes"])

    def before_test(self, runner: Runner) -> None:
        """Set the vocabulary of the test data."""
        self._set(_model(runner), runner.test_dataloader.dataset.metainfo["classes"])

    def _set(self, model: torch.nn.Module, classes: Sequence[str]) -> None:
        _classifier(model).set_vocabulary(self.bank.subset(classes).embeddings)

    def _require_labels_of_this_bank(self, metainfo: dict[str, str]) -> None:
        made_with = metainfo.get("bank_sha256")
        if made_with != self.bank.sha256:
            raise InputError(
                f"the pseudo labels index the concepts of another bank ({made_with!r}, this is {self.bank.sha256!r})",
                file=self.bank.source,
                key="sha256",
                mend="give the bank that the region store was made with, or make the store again",
            )


def _model(runner: Runner) -> torch.nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _classifier(model: torch.nn.Module) -> TextEmbeddingClassifier:
    return model.roi_head.bbox_head.fc_cls
