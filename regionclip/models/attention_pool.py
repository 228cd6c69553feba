"""CLIP's attention pool, computed for the one query that CLIP uses."""

from __future__ import annotations

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from regionclip.errors import InputError


@MODELS.register_module()
class AttentionPool(nn.Module):
    """Pool feature maps (N, C, S, S) to embeddings (N, D), with the parameters of open_clip's ``AttentionPool2d``.

    open_clip computes keys, values and outputs for all S * S + 1 tokens and keeps the output of the first, the mean
    token. Here only that query is computed, and the large products are re-ordered: q (W_k t) = (q W_k) t, and
    sum_l a_l (W_v t_l) = W_v (sum_l a_l t_l). The result is the same up to rounding; the cost falls from
    about 4 S^2 C^2 to 4 C^2 multiplications a region.

    Args:
        spacial_dim: S, the side of the maps (open_clip's spelling); 7 for RN50.
        embed_dim: C, channels of the maps.
        num_heads: Attention heads.
        output_dim: D, width of the embedding.
    """

    def __init__(self, spacial_dim: int, embed_dim: int, num_heads: int, output_dim: int) -> None:
        super().__init__()
        self.spacial_dim, self.num_heads = spacial_dim, num_heads
        self.positional_embedding = nn.Parameter(torch.randn(spacial_dim**2 + 1, embed_dim) / embed_dim**0.5)
        self.k_proj = nn.Linear(embed_dim, embed_dim)
        self.q_proj = nn.Linear(embed_dim, embed_dim)
        self.v_proj = nn.Linear(embed_dim, embed_dim)
        self.c_proj = nn.Linear(embed_dim, output_dim)

    def forward(self, maps: Tensor) -> Tensor:
        """Pool ``maps`` (N, C, S, S).

        Returns:
            Embeddings (N, D), not normalised.

        Raises:
            InputError: The maps have another side than S; positional embeddings are not interpolated.
        """
        side, (height, width) = self.spacial_dim, maps.shape[2:]
        if (height, width) != (side, side):
            problem = f"the attention pool was trained on {side}x{side} maps and got {height}x{width}"
            mend = f"pool regions to {2 * side}x{2 * side}"
            raise InputError(problem, key="roi_extractor.roi_layer.output_size", mend=mend)
        return self.c_proj(self._attend(maps.flatten(2).transpose(1, 2)))

    def _attend(self, tokens: Tensor) -> Tensor:
        """Let the mean of ``tokens`` (N, L, C) attend to itself and to all of them: (N, C).

        The mean's score is the mean of scores, and its share falls to all tokens alike; positions are apart from them.
        So no tensor is made of all tokens with their mean and positions.
        """
        positions, count = self.positional_embedding, tokens.shape[1]
        heads = (self.num_heads, tokens.shape[2] // self.num_heads)
        query = self.q_proj(tokens.mean(dim=1) + positions[0]).unflatten(-1, heads) * heads[1] ** -0.5
        folded = torch.einsum("nhd,hdc->nhc", query, self.k_proj.weight.unflatten(0, heads))
        # The key bias adds the same number to every token's score, which softmax ignores. It stays in the graph so
        # that every trainable parameter has a gradient, as DistributedDataParallel demands.
        bias = torch.einsum("nhd,hd->nh", query, self.k_proj.bias.unflatten(0, heads)).unsqueeze(-1)
        scores = folded @ tokens.transpose(1, 2)
        scores = torch.cat([scores.mean(dim=-1, keepdim=True), scores], dim=-1) + folded @ positions.T + bias
        weights = scores.softmax(dim=-1)
        shares = weights[..., 1:] + weights[..., :1] / count
        mixed = shares @ tokens + weights @ positions
        values = torch.einsum("nhc,hdc->nhd", mixed, self.v_proj.weight.unflatten(0, heads))
        return values.flatten(1) + self.v_proj.bias
