"""Region-text pretraining: the student, the frozen text encoder and the three losses of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.dist import get_world_size
from mmengine.model import BaseModel
from torch import Tensor, nn

from regionclip.errors import InputError
from regionclip.models.losses import joint_mean


@MODELS.register_module()
class RegionTextPretrainer(BaseModel):
    """Trains a region encoder on stored regions, their pseudo labels and the images' captions (paper 3.2).

    Official ``PretrainFastRCNN``, with the teacher's work done beforehand: each data sample brings ``proposals``, an
    ``InstanceData`` of bboxes (n, 4) xyxy in pixels of the network input, concept_index (n, k) int64 and
    concept_prob (n, k) float, and, for the image-text loss, ``caption_tokens`` (L,) int64.

    Args:
        student: Config of the :class:`RegionEncoder`.
        text_tower: Config or module that maps tokens (B, L) to features (B, D); needed by the image-text loss only.
        concept_threshold: Regions whose best concept is not above it take no part; if none is, all do.
        contrastive_loss: Config of the region-concept contrast; None leaves it out.
        distillation_loss: Config of the distillation; None leaves it out.
        image_text_loss: Config of the image-text contrast; None leaves it out.
        whole_image_box: What stands for the whole image: its own size, or the padded canvas of the batch as in the
            official code.
        data_preprocessor: MMEngine's.
    """

    def __init__(
        self,
        student: dict,
        text_tower: dict | nn.Module | None = None,
        concept_threshold: float = 0.1,
        contrastive_loss: dict | None = None,
        distillation_loss: dict | None = None,
        image_text_loss: dict | None = None,
        whole_image_box: Literal["image", "canvas"] = "image",
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        super().__init__(_built(data_preprocessor))
        self.student = MODELS.build(student)
        self.text_tower = _built(text_tower)
        self.contrastive_loss = _built(contrastive_loss)
        self.distillation_loss = _built(distillation_loss)
        self.image_text_loss = _built(image_text_loss)
        if self.image_text_loss is not None and self.text_tower is None:
            problem = "the image-text loss needs a text tower"
            raise InputError(problem, key="text_tower", mend="give one, or drop the loss")
        self.concept_threshold, self.whole_image_box = concept_threshold, whole_image_box
        self.register_buffer("concepts", torch.zeros(0, self.student.embed_dim), persistent=False)

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
        features = self.student.forward_features(inputs)
        boxes = [sample.proposals.bboxes for sample in data_samples]
        if mode == "tensor":
            return self.student.encode(features, boxes)
        if mode != "loss":
            raise ValueError(f"mode is 'loss' or 'tensor', not {mode!r}")
        losses = self._region_losses(self.student.encode(features, boxes), data_samples)
        if self.image_text_loss is not None:
            images = self.student.encode(features, self._whole_images(inputs, data_samples))
            texts = self.text_tower(torch.stack([sample.caption_tokens for sample in data_samples]))
            losses["loss_image_text"] = self.image_text_loss(images, texts.detach())
        return losses

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
        if self.contrastive_loss is not None:
            labels = index.gather(1, best[:, None]).squeeze(1)
            losses["loss_contrastive"] = self.contrastive_loss(regions, self.concepts, labels, keep)
        if self.distillation_loss is not None:
            losses["loss_distillation"] = self.distillation_loss(regions, self.concepts, index, probs, keep)
        return losses

    def _whole_images(self, inputs: Tensor, data_samples: Sequence[DetDataSample]) -> list[Tensor]:
        """Return one box (1, 4) an image that covers it."""
        canvas = inputs.shape[-2:]
        sizes = [canvas if self.whole_image_box == "canvas" else sample.img_shape[:2] for sample in data_samples]
        return [inputs.new_tensor([[0, 0, width, height]]) for height, width in sizes]


def _built(config: dict | nn.Module | None) -> nn.Module | None:
    return MODELS.build(config) if isinstance(config, dict) else config
