"""Open-vocabulary Fast R-CNN on CLIP RN50-C4 with a class-agnostic mask head on layer4's maps, official settings."""

_base_ = "./ov_fast_rcnn_clip_rn50_c4.py"

model = dict(
    data_preprocessor=dict(pad_mask=True),
    roi_head=dict(
        # None: masks are read from the boxes' own layer4 maps.
        mask_roi_extractor=None,
        mask_head=dict(
            type="JointMaskHead",
            num_convs=0,
            in_channels=2048,
            conv_out_channels=256,
            # One mask serves all classes, so any vocabulary has masks.
            class_agnostic=True,
            num_classes=1,
            loss_mask=dict(type="CrossEntropyLoss", use_mask=True, loss_weight=1.0),
        ),
    ),
    train_cfg=dict(rcnn=dict(mask_size=14)),
    test_cfg=dict(rcnn=dict(mask_thr_binary=0.5)),
)
