"""What exported configs name beside the parts of a training: strict loading, the vocabulary, the protocol's numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, METRICS
from mmengine.runner import Runner

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.containers import refuse_non_finite
from regionclip.checkpoints.loading import require_fit
from regionclip.data.annotations.masks import encode_masks
from regionclip.data.annotations.truth import load_truth
from regionclip.data.layout import detection_set, load_classes
from regionclip.engine.joint_batch import unwrapped
from regionclip.errors import InputError
from regionclip.evaluation.detections import detections_from_samples
from regionclip.evaluation.protocols import measure
from regionclip.models.region_text_pretrainer import RegionTextPretrainer
from regionclip.models.split_roi_head import SplitRoIHead
from regionclip.text.text_bank import TextBank

# The vocabulary comes from the text bank, on the counter no result depends, and the text tower is `TextTowerHook`'s.
_ALLOWED = r"roi_head\.bbox_head\.fc_cls\.embeddings|.*\.num_batches_tracked|text_tower\..*"


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Compare every key and shape of a checkpoint with the model's before MMEngine loads it (with ``strict=False``).

    A detector whose weights silently stayed random is the commonest cause of an AP near zero.

    Raises:
        InputError: A key is missing, left over or of another shape, and is not allowed by name; or a weight is not
            finite.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Check ``checkpoint``; MMEngine calls this before it copies the weights."""
        model, mend = unwrapped(runner), "give the checkpoint of this config's model"
        state, file = checkpoint.get("state_dict", checkpoint), runner.cfg.get("load_from") or runner.work_dir
        require_fit(model.state_dict(), state, file, _ALLOWED, mend=mend)
        refuse_non_finite(state, file)


@HOOKS.register_module()
class TextTowerHook(Hook):
    """Put the text tower of a CLIP folder into the checkpoints of a pretraining, which does not change it.

    So a checkpoint is a whole CLIP, which ``regionclip convert`` writes in open_clip's form.
    """

    def __init__(self, clip: str) -> None:
        self.clip = ClipFolder.open(clip)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add it as ``text_tower``."""
        for key, value in self.clip.state_dict().items():
            if not key.startswith(("visual.", "logit_scale")):
                checkpoint["state_dict"][f"text_tower.{key}"] = value


@HOOKS.register_module()
class VocabularyHook(Hook):
    """Pick the rows of a text bank that the data set's ``classes`` name, and make them the detector's vocabulary.

    It works before a training and before a test. `RegionTextPretrainer` gets the whole bank, the concepts that its
    pseudo labels index.

    Raises:
        InputError: The bank lacks a class, has another width than the model, or is not the one that the pseudo labels
            were made with.
    """

    def __init__(self, bank: str) -> None:
        self.bank = TextBank.load(bank)

    def before_train(self, runner: Runner) -> None:
        """Set the vocabulary of the training data, or the concept bank."""
        model, metainfo = unwrapped(runner), runner.train_dataloader.dataset.metainfo
        if isinstance(model, RegionTextPretrainer):
            if (made_with := metainfo.get("bank_sha256")) != self.bank.sha256:
                problem = f"the pseudo labels index the concepts of another bank ({made_with}, not {self.bank.sha256})"
                mend = "give the bank that the region store was made with, or make the store again"
                raise InputError(problem, file=self.bank.source, key="sha256", mend=mend)
            model.set_concepts(self.bank.embeddings)
        elif not isinstance(model.roi_head, SplitRoIHead):
            # The two vocabularies of that are in the weights that it starts from.
            self._set(model, metainfo["classes"])

    def before_test(self, runner: Runner) -> None:
        """Set the vocabulary of the test data."""
        self._set(unwrapped(runner), runner.test_dataloader.dataset.metainfo["classes"])

    def _set(self, model: torch.nn.Module, classes: Sequence[str]) -> None:
        model.roi_head.bbox_head.fc_cls.set_vocabulary(self.bank.subset(classes).embeddings)


@METRICS.register_module()
class ProtocolMetric(BaseMetric):
    """Measure detections of all classes in a split (``dev`` or ``val``) by their data set's protocol; see `measure`."""

    def __init__(self, dataset: str, split: str, protocol: str, collect_device: str = "cpu") -> None:
        super().__init__(collect_device, prefix=dataset)
        self.dataset, self.split, self.protocol = dataset, split, protocol

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the detections of each picture."""
        for sample in data_samples:
            found = SimpleNamespace(**sample["pred_instances"])
            if masks := hasattr(found, "masks"):
                tensor = hasattr(found.masks, "numpy")
                found.masks = encode_masks(found.masks.numpy(force=True) if tensor else found.masks)
            self.results.append(SimpleNamespace(img_id=sample["img_id"], pred_instances=found, masks=masks))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return the numbers; those of groups and classes have dotted names."""
        annotations, classes = detection_set(self.dataset, self.split).annotations, load_classes(self.dataset)
        truth = load_truth(annotations, lvis=classes.federated, masks=any(item.masks for item in results))
        found = detections_from_samples(results, classes.ids)
        return dict(_flat(measure(self.protocol, truth, found, classes)))


def _flat(numbers: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in numbers.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, int | float):
            yield f"{prefix}{key}", float(value)
