"""F-ViT's RPN: on the pyramid of a frozen EVA02-CLIP B/16, two convolutions, raw logits kept."""

_base_ = "./rpn_r50_fpn.py"

model = dict(
    data_preprocessor=dict(
        _delete_=True,
        type="DetDataPreprocessor",
        mean=[122.7709383, 116.7460125, 104.09373615],
        std=[68.5005327, 66.6321579, 70.32316305],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(_delete_=True, type="CLIPPatchMap", frozen_stages=5, out_blocks=[3, 5, 7, 11], embeddings=False),
    neck=dict(_delete_=True, type="FViTPyramid", in_channels=768),
    rpn_head=dict(num_convs=2),
)
