"""Official offline RPN on COCO's base classes: MSRA's ResNet-50, one map of stride 16, raw logits kept."""

_base_ = "mmdet::_base_/models/rpn_r50-caffe-c4.py"

model = dict(
    # Pictures are padded to the largest of their batch only.
    data_preprocessor=dict(pad_size_divisor=1),
    # Nothing is fetched at run time: weights come from a checkpoint.
    backbone=dict(init_cfg=None),
    rpn_head=dict(
        type="LogitRPNHead",
        # Detectron2's order of the anchors of a cell: size outside, ratio inside.
        anchor_generator=dict(scale_major=False),
        # Detectron2 limits how much a box may grow, not how much it may shrink.
        bbox_coder=dict(type="UpperClipBBoxCoder"),
    ),
    test_cfg=dict(rpn=dict(nms_pre=6000, max_per_img=1000, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0)),
)
