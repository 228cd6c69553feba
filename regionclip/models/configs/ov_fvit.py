"""F-ViT: open-vocabulary Fast R-CNN on a pyramid of a frozen EVA02-CLIP B/16 and stored proposals."""

_base_ = "./ov_fast_rcnn_clip_rn50_c4.py"

model = dict(
    # Maps of which the pyramid halves the coarsest.
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(_delete_=True, type="CLIPPatchMap", frozen_stages=5, out_blocks=[3, 5, 7, 11]),
    neck=dict(_delete_=True, type="FViTPyramid", in_channels=768),
    roi_head=dict(
        type="FViTRoIHead",
        shared_head=None,
        bbox_roi_extractor=dict(
            _delete_=True,
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=0, use_torchvision=True),
            out_channels=256,
            featmap_strides=[4, 8, 16, 32],
        ),
        bbox_head=dict(
            _delete_=True,
            type="FViTBBoxHead",
            in_channels=256,
            fc_out_channels=512,
            roi_feat_size=7,
            num_classes=48,
            norm_cfg=dict(type="GN", num_groups=32),
            cls_predictor_cfg=dict(type="LearnedTextClassifier", embed_dim=512, temperature=0.02),
            bbox_coder=dict(
                type="UpperClipBBoxCoder", target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[0.1, 0.1, 0.2, 0.2]
            ),
            loss_cls=dict(type="FocalScaledCrossEntropy", gamma=0.0, background_weight=0.6, average="weights"),
            loss_bbox=dict(type="L1Loss", loss_weight=1.0),
        ),
    ),
)
