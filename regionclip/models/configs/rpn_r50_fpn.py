"""Official offline RPN on LVIS's base classes: MSRA's ResNet-50 with FPN, raw logits kept."""

_base_ = "mmdet::_base_/models/rpn_r50_fpn.py"

model = dict(
    # MSRA's weights: BGR in 0..255, only the mean taken off, the stride in the first 1x1 convolution.
    data_preprocessor=dict(mean=[103.530, 116.280, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(
        norm_cfg=dict(requires_grad=False),
        style="caffe",
        # Nothing is fetched at run time: weights come from a checkpoint.
        init_cfg=None,
    ),
    rpn_head=dict(
        type="LogitRPNHead",
        anchor_generator=dict(scale_major=False),
        # Detectron2 limits how much a box may grow, not how much it may shrink.
        bbox_coder=dict(type="UpperClipBBoxCoder"),
    ),
    # nms_pre is a level's. Zero-shot inference raises the IoU to 0.9, pretraining lowers it to 0.5.
    test_cfg=dict(
        rpn=dict(
            nms_pre=1000,
            max_per_img=1000,
            # From 1001 boxes on level by level, as torchvision does on a CPU; below, levels are moved apart.
            nms=dict(type="nms", iou_threshold=0.7, split_thr=1001),
            min_bbox_size=0,
        )
    ),
)
