"""The frozen text encoder of a CLIP, without its image side."""

from __future__ import annotations

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from open_clip.model import CLIP
from torch import Tensor, no_grad

from regionclip.checkpoints.clip_folder import encode_text


@MODELS.register_module()
class CLIPTextTower(BaseModule):
    """open_clip's text modules under their own names; nothing trains and the mode is always evaluation.

    Args:
        embed_dim: Width of the embedding.
        text_cfg: ``text_cfg`` of an open_clip configuration.
        quick_gelu: Whether the model was trained with QuickGELU, as OpenAI's were.
    """

    _PARTS = ("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection")

    def __init__(self, embed_dim: int, text_cfg: dict, quick_gelu: bool = False) -> None:
        super().__init__()
        smallest = dict(layers=[1, 1, 1, 1], width=2, head_width=64, image_size=32)
        clip = CLIP(embed_dim, smallest, text_cfg, quick_gelu=quick_gelu)
        for name in self._PARTS:
            setattr(self, name, getattr(clip, name))
        self.register_buffer("attn_mask", clip.attn_mask, persistent=False)
        self.text_pool_type, self.text_eos_id = clip.text_pool_type, clip.text_eos_id
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> CLIPTextTower:
        """Stay in evaluation mode, whatever ``mode`` says."""
        return super().train(False)

    @no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        """Encode ``tokens`` (B, L) int64 to un-normalised features (B, D)."""
        return encode_text(self, tokens)
