"""RPN on the stride-16 map of CLIP RN50, raw logits kept; MMDetection's C4 schedule of anchors and samples."""

_base_ = ["mmdet::_base_/models/rpn_r50-caffe-c4.py", "./clip_preprocessor.py"]

model = dict(
    data_preprocessor=_base_.clip_preprocessor,
    backbone=dict(_delete_=True, type="CLIPResNetC4", layers=[3, 4, 6], width=64, frozen_stages=2),
    rpn_head=dict(
        type="LogitRPNHead",
        # Detectron2's order of the anchors of a cell: size outside, ratio inside.
        anchor_generator=dict(scale_major=False),
    ),
    test_cfg=dict(rpn=dict(nms_pre=6000, max_per_img=1000, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0)),
)
