"""Region-text pretraining: the student, and the losses of the paper, on what the teacher said before, and CLIPSelf."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.dist import get_world_size
from mmengine.model import BaseModel
from open_clip.model import _build_vision_tower
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from regionclip.errors import InputError
from regionclip.models.losses import joint_mean
from regionclip.models.region_crops import embed_crops


@MODELS.register_module()
class RegionTextPretrainer(BaseModel):
    """Trains a region encoder on stored regions, their pseudo labels and the images' captions (paper 3.2).

    Official ``PretrainFastRCNN``, with the teacher's work done beforehand: each data sample brings ``proposals``, an
    ``InstanceData`` of bboxes (n, 4) xyxy in pixels of the network input, concept_index (n, k) int64 and
    concept_prob (n, k) float, and, for the image-text loss, ``caption_features`` (D,) of the frozen text encoder.

    With ``micro_batch`` the losses are still those of the whole batch, in the memory of its pictures' parts (GradCache,
    arXiv:2101.06983): a pass without activations gives the features of all; the gradients of the losses with respect
    to them go back through each part in turn, which is run once more for that.

    Args:
        student: Config of the :class:`RegionEncoder`.
        concept_threshold: Regions whose best concept is not above it take no part; if none is, all do.
        contrastive_loss: Config of the region-concept contrast; None leaves it out.
        distillation_loss: Config of the distillation; None leaves it out.
        image_text_loss: Config of the image-text contrast; None leaves it out.
        classification_loss: Config of the hard labels' binary cross-entropy; None leaves it out.
        crop_distillation_loss: Config of CLIPSelf's loss, on all regions; None leaves it out.
        original: What crops are embedded with for it, frozen: ``embed_dim``, ``vision_cfg`` and ``quick_gelu`` of an
            open_clip configuration.
        whole_image_box: What stands for the whole image: its own size, or the padded canvas of the batch as in the
            official code.
        micro_batch: Pictures whose activations are held at a time; None: all of the batch.
        data_preprocessor: MMEngine's.
    """

    def __init__(
        self,
        student: dict,
        concept_threshold: float = 0.1,
        contrastive_loss: dict | None = None,
        distillation_loss: dict | None = None,
        image_text_loss: dict | None = None,
        classification_loss: dict | None = None,
        crop_distillation_loss: dict | None = None,
        original: dict | None = None,
        whole_image_box: Literal["image", "canvas"] = "image",
        micro_batch: int | None = None,
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        super().__init__(_built(data_preprocessor))
        self.student = MODELS.build(student)
        self.contrastive_loss = _built(contrastive_loss)
        self.distillation_loss = _built(distillation_loss)
        self.image_text_loss = _built(image_text_loss)
        self.classification_loss = _built(classification_loss)
        self.crop_distillation_loss = _built(crop_distillation_loss)
        if crop_distillation_loss is not None:
            self.original = _build_vision_tower(**original).requires_grad_(False)
        self.concept_threshold, self.whole_image_box = concept_threshold, whole_image_box
        self.micro_batch = micro_batch
        self.register_buffer("concepts", torch.zeros(0, self.student.embed_dim), persistent=False)

    def train(self, mode: bool = True) -> RegionTextPretrainer:
        """Set the mode of everything but the original."""
        super().train(mode)
        if self.crop_distillation_loss is not None:
            self.original.eval()
        return self

    def set_concepts(self, embeddings: Tensor) -> None:
        """Set the concept bank (C, D), the one that the pseudo labels index.

        Raises:
            InputError: Its width is not the student's.
        """
        width, shape = self.student.embed_dim, tuple(embeddings.shape)
        if len(shape) != 2 or shape[1] != width:
            problem = f"concept embeddings of shape {shape} do not fit region embeddings of width {width}"
            mend = "build the concept bank with the student's text encoder"
            raise InputError(problem, key="embeddings", mend=mend)
        self.concepts = embeddings.detach().clone().to(self.concepts)

    def forward(
        self, inputs: Tensor, data_samples: Sequence[DetDataSample], mode: str = "tensor"
    ) -> Tensor | dict[str, Tensor]:
        """Embed the regions, or compute the losses on them.

        Args:
            inputs: (B, 3, H, W) normalised RGB, padded to one canvas.
            data_samples: One an image; see the class.
            mode: 'tensor' or 'loss'.

        Returns:
            'tensor': embeddings (sum of n, D). 'loss': each active loss, and ``kept_regions``, their number; of
            both the mean over the processes is that of the joint batch.
        """
        boxes = [[sample.proposals.bboxes for sample in data_samples]]
        if mode == "tensor":
            return self._encode(inputs, boxes)[0]
        if mode != "loss":
            raise ValueError(f"mode is 'loss' or 'tensor', not {mode!r}")
        if self.image_text_loss is not None:
            boxes.append(self._whole_images(inputs, data_samples))
        regions, *images = self._encode_in_parts(inputs, boxes)
        losses = self._region_losses(regions, data_samples)
        if self.crop_distillation_loss is not None:
            with torch.no_grad():
                crops = embed_crops(self.original, inputs, boxes[0], context=1.0)
            losses["loss_crop_distillation"] = self.crop_distillation_loss(regions, crops)
        if images:
            texts = torch.stack([sample.caption_features for sample in data_samples])
            losses["loss_image_text"] = self.image_text_loss(*images, texts)
        return losses

    def _encode(self, inputs: Tensor, kinds: list[list[Tensor]]) -> list[Tensor]:
        """Embed boxes of several kinds, each one (n, 4) a picture, and return the embeddings of each kind."""
        features = self.student.forward_features(inputs)
        return [self.student.encode(features, boxes) for boxes in kinds]

    def _encode_in_parts(self, inputs: Tensor, kinds: list[list[Tensor]]) -> list[Tensor]:
        """Return what `_encode` does; activations of a part are there only while gradients pass through it."""
        step = self.micro_batch or len(inputs)
        if step >= len(inputs):
            return self._encode(inputs, kinds)
        parts = []
        for start in range(0, len(inputs), step):
            part = slice(start, start + step)
            arguments = inputs[part], [boxes[part] for boxes in kinds]
            # Nothing here draws random numbers.
            parts.append(checkpoint(self._encode, *arguments, use_reentrant=False, preserve_rng_state=False))
        return [torch.cat(of_kind) for of_kind in zip(*parts, strict=True)]

    def _region_losses(self, regions: Tensor, data_samples: Sequence[DetDataSample]) -> dict[str, Tensor]:
        index = torch.cat([sample.proposals.concept_index for sample in data_samples])
        if joint_mean(len(index)) == 0:
            mend = "leave images without regions out of the region store"
            raise InputError("no image of the batch has a region", key="proposals.bboxes", mend=mend)
        probs = torch.cat([sample.proposals.concept_prob for sample in data_samples]).float()
        scores, best = probs.max(dim=1)
        keep = scores > self.concept_threshold
        # A mask and no selection, so that the device need not tell how many they are.
        keep = keep | (joint_mean(keep.sum()) == 0)
        losses = {"kept_regions": keep.sum().float() * get_world_size()}
        labels = index.gather(1, best[:, None]).squeeze(1)
        for name in ("contrastive", "classification"):
            if (loss := getattr(self, f"{name}_loss")) is not None:
                losses[f"loss_{name}"] = loss(regions, self.concepts, labels, keep)
        if self.distillation_loss is not None:
            losses["loss_distillation"] = self.distillation_loss(regions, self.concepts, index, probs, keep)
        return losses

    def _whole_images(self, inputs: Tensor, data_samples: Sequence[DetDataSample]) -> list[Tensor]:
        """Return one box (1, 4) an image that covers it."""
        canvas = inputs.shape[-2:]
        sizes = [canvas if self.whole_image_box == "canvas" else sample.img_shape[:2] for sample in data_samples]
        boxes = torch.tensor([[0, 0, width, height] for height, width in sizes], dtype=inputs.dtype)
        return list(boxes.to(inputs.device, non_blocking=True)[:, None])


def _built(config: dict | nn.Module | None) -> nn.Module | None:
    return MODELS.build(config) if isinstance(config, dict) else config
