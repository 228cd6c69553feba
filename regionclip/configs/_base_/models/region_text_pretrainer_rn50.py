"""The region-text pretrainer of RN50, started from the teacher; the three losses of the paper at weight 1."""

custom_imports = dict(imports=["regionclip.engine.components"], allow_failed_imports=False)
model = dict(
    type="RegionTextPretrainer",
    init_cfg=dict(type="CLIPPretrained", folder="artifacts/teacher"),
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[122.7709383, 116.7460125, 104.09373615],
        std=[68.5005327, 66.6321579, 70.32316305],
    ),
    backbone=dict(type="CLIPResNetC4", layers=[3, 4, 6], width=64, frozen_stages=2),
    roi_extractor=dict(
        type="SingleRoIExtractor",
        roi_layer=dict(type="RoIAlign", output_size=14, sampling_ratio=0, aligned=True),
        out_channels=1024,
        featmap_strides=[16],
    ),
    res5=dict(type="CLIPRes5", blocks=3, width=64),
    attention_pool=dict(type="AttentionPool", spacial_dim=7, embed_dim=2048, num_heads=32, output_dim=1024),
    text_tower=dict(
        type="CLIPTextTower",
        embed_dim=1024,
        text_cfg=dict(context_length=77, vocab_size=49408, width=512, heads=8, layers=12),
        quick_gelu=True,
    ),
    concept_threshold=0.1,
    whole_image_box="canvas",
    contrastive_loss=dict(type="RegionConceptContrastiveLoss", temperature=0.01),
    distillation_loss=dict(type="ConceptDistillationLoss", temperature=0.01),
    image_text_loss=dict(type="ImageTextContrastiveLoss", temperature=0.01),
)
