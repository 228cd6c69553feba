"""A classifier whose rows are text embeddings: the vocabulary is data, not weights."""

from __future__ import annotations

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor

from regionclip.errors import InputError
from regionclip.regions.matching import cosine_logits


@MODELS.register_module()
class TextEmbeddingClassifier(BaseModule):
    """Cosine similarity to K text embeddings over a temperature, and a background logit that is always 0.

    Official ``FastRCNNOutputLayers`` (``fast_rcnn.py``): ``cls_score`` holds the frozen text embeddings and
    ``cls_bg_score`` a frozen row of zeros, whose cosine with everything is 0. Background is the last column.

    The embeddings are the buffer ``embeddings`` (K, D), un-normalised, saved with checkpoints. It is not called
    ``weight``, because ``BBoxHead``'s default initialisation overwrites anything of that name.

    Args:
        in_features: D, width of region and text embeddings.
        out_features: K + 1, as ``BBoxHead`` counts; K may change later through :meth:`set_vocabulary`.
        temperature: Divides the cosines.
    """

    def __init__(self, in_features: int, out_features: int, temperature: float = 0.01) -> None:
        super().__init__()
        self.temperature = temperature
        self._filled = False
        self._owners: Tensor | None = None
        self.register_buffer("embeddings", torch.zeros(out_features - 1, in_features))

    def set_vocabulary(self, embeddings: Tensor, owners: Tensor | None = None) -> None:
        """Classify among other texts from now on.

        Args:
            embeddings: (K, D) float, one row a class in label order; any norm but 0.
            owners: (rows,) int64, where rows are not classes: the class of each, of which the nearest row counts, or -1
                for what is background.

        Raises:
            InputError: Another shape or width, a row of zeros, or a number that is not finite.
        """
        width, shape = self.embeddings.shape[1], tuple(embeddings.shape)
        if len(shape) != 2 or shape[0] == 0 or shape[1] != width:
            problem = f"text embeddings of shape {shape} do not fit region embeddings of width {width}"
            mend = "use the text bank that was built with this model's text encoder"
            raise InputError(problem, key="embeddings", mend=mend)
        bad = ~(embeddings.isfinite().all(dim=1) & embeddings.any(dim=1))
        if bad.any():
            record, mend = int(bad.nonzero()[0]), "rebuild the text bank"
            raise InputError("a text embedding is zero or not finite", record=record, key="embeddings", mend=mend)
        self.embeddings = embeddings.detach().clone().to(self.embeddings)
        self._owners = None if owners is None else owners.to(self.embeddings.device)

    def forward(self, regions: Tensor) -> Tensor:
        """Score ``regions`` (N, D), un-normalised: logits (N, K + 1), background last."""
        return self.compare(regions, self.temperature)

    def compare(self, regions: Tensor, temperature: float | Tensor, background: Tensor | None = None) -> Tensor:
        """Score ``regions`` (N, D) over a temperature; the background's cosine is that with a row (D,), or 0.

        Raises:
            InputError: No vocabulary was set or loaded.
        """
        if not self._filled:
            self._filled = bool(self.embeddings.any())
            if not self._filled:
                mend = "call set_vocabulary before use"
                raise InputError("the classifier has no vocabulary", key="embeddings", mend=mend)
        logits = cosine_logits(regions, self.embeddings, temperature)
        rest = logits.new_zeros(len(logits), 1)
        if background is not None:
            rest = cosine_logits(regions, background[None], temperature)
        if self._owners is None:
            return torch.cat([logits, rest], dim=1)
        owned = self._owners >= 0
        classes = self._owners[owned].expand(len(logits), -1)
        nearest = logits.new_full((len(logits), int(self._owners.max()) + 1), -torch.inf)
        nearest = nearest.scatter_reduce(1, classes, logits[:, owned], "amax")
        rest = torch.cat([logits[:, ~owned], rest], dim=1).logsumexp(dim=1, keepdim=True)
        return torch.cat([nearest, rest], dim=1)
