"""Official offline RPN trained with large-scale jittering: the FPN one with SyncBN everywhere and a two-conv head."""

_base_ = "./rpn_r50_fpn.py"

norm_cfg = dict(type="SyncBN", requires_grad=True)
model = dict(
    backbone=dict(frozen_stages=-1, norm_cfg=norm_cfg, norm_eval=False),
    neck=dict(norm_cfg=norm_cfg),
    rpn_head=dict(num_convs=2),
)
