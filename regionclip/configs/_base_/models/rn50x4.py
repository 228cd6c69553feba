"""What RN50x4 changes in the models of RN50: more and wider layers, RoIs of 18x18, embeddings of 640."""

rn50x4_parts = dict(
    backbone=dict(layers=[4, 6, 10], width=80),
    res5=dict(blocks=6, width=80),
    roi_extractor=dict(roi_layer=dict(output_size=18), out_channels=1280),
    attention_pool=dict(spacial_dim=9, embed_dim=2560, num_heads=40, output_dim=640),
)
rn50x4_pretrainer = dict(
    text_tower=dict(embed_dim=640, text_cfg=dict(width=640, heads=10)),
    **rn50x4_parts,
)
rn50x4_detector = dict(
    backbone=rn50x4_parts["backbone"],
    roi_head=dict(
        shared_head=rn50x4_parts["res5"],
        bbox_roi_extractor=rn50x4_parts["roi_extractor"],
        bbox_head=dict(attention_pool=rn50x4_parts["attention_pool"]),
    ),
)
rn50x4_mask_detector = dict(
    backbone=rn50x4_parts["backbone"],
    roi_head=dict(mask_head=dict(in_channels=2560), **rn50x4_detector["roi_head"]),
    train_cfg=dict(rcnn=dict(mask_size=18)),
)
