"""Open-vocabulary Fast R-CNN on CLIP RN50-C4 and stored proposals: COCO's 48 base classes, official settings."""

_base_ = ["mmdet::_base_/models/fast-rcnn_r50_fpn.py", "./clip_preprocessor.py"]

model = dict(
    data_preprocessor=_base_.clip_preprocessor,
    backbone=dict(_delete_=True, type="CLIPResNetC4", layers=[3, 4, 6], width=64, frozen_stages=2),
    neck=None,
    roi_head=dict(
        shared_head=dict(type="CLIPRes5", blocks=3, width=64),
        bbox_roi_extractor=dict(
            type="RegionExtractor",
            roi_layer=dict(output_size=14, aligned=True),
            out_channels=1024,
            featmap_strides=[16],
        ),
        bbox_head=dict(
            _delete_=True,
            type="RegionEmbeddingHead",
            attention_pool=dict(spacial_dim=7, embed_dim=2048, num_heads=32, output_dim=1024),
            num_classes=48,
            cls_predictor_cfg=dict(type="TextEmbeddingClassifier", temperature=0.01),
            # Detectron2 limits how much a box may grow, not how much it may shrink.
            bbox_coder=dict(
                type="UpperClipBBoxCoder", target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[0.1, 0.1, 0.2, 0.2]
            ),
            loss_cls=dict(type="FocalScaledCrossEntropy", gamma=0.5, background_weight=0.2),
            loss_bbox=dict(type="L1Loss", loss_weight=1.0),
        ),
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.001, nms=dict(split_thr=1001))),
)
