"""How pictures are normalised for CLIP: by the statistics of its own training, RGB."""

clip_preprocessor = dict(
    _delete_=True,
    type="DetDataPreprocessor",
    mean=[122.7709383, 116.7460125, 104.09373615],
    std=[68.5005327, 66.6321579, 70.32316305],
    bgr_to_rgb=True,
)
