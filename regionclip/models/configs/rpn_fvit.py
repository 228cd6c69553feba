"""F-ViT's RPN: on the pyramid of a frozen EVA02-CLIP B/16, two convolutions, raw logits kept."""

_base_ = ["./rpn_r50_fpn.py", "./clip_preprocessor.py"]

model = dict(
    data_preprocessor=_base_.clip_preprocessor,
    backbone=dict(_delete_=True, type="CLIPPatchMap", frozen_stages=5, out_blocks=[3, 5, 7, 11], embeddings=False),
    neck=dict(_delete_=True, type="FViTPyramid", in_channels=768),
    rpn_head=dict(num_convs=2),
)
