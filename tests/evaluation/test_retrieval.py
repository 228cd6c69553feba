"""Image-text retrieval: hand-computed recalls, ties, chunks, and a CLIP on pictures it knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip import image_transform
from PIL import Image

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.data.captions.json_files import CocoCaptions, KarpathyCaptions
from regionclip.errors import InputError
from regionclip.evaluation.retrieval import evaluate_retrieval, retrieval_recall
from regionclip.files import write_json
from regionclip.labelling.teacher import normalized


def directions(*degrees: float) -> torch.Tensor:
    """Unit vectors in the plane, so that the nearest is the one of the nearest angle."""
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_hand_computed_recall() -> None:
    """Images at 0, 40 and 80 degrees. Captions: of the first at 5 and 60.5, of the second at 41, of the third at 38.5.

    From images: the first finds its 5 and the second its 41; the third finds 60.5 first, which is the first's, then 41,
    then its own 38.5: a hit at 5, not at 1. From captions: 5 and 41 are right; 60.5 finds the third image and then the
    second, 38.5 the second and then the first: their own come last."""
    images, texts = directions(0, 40, 80), directions(5, 60.5, 41, 38.5)
    result = retrieval_recall(images, texts, torch.tensor([0, 0, 1, 2]))
    assert [result[f"image_to_text_r{k}"] for k in (1, 5, 10)] == pytest.approx([2 / 3, 1, 1])
    assert [result[f"text_to_image_r{k}"] for k in (1, 5, 10)] == pytest.approx([2 / 4, 1, 1])


def test_any_caption_of_an_image_is_a_hit_and_k_is_exact() -> None:
    """Five captions lie nearer to image 0 than its own, which is found at 10 but not at 5; with four, at 5 too."""
    others = directions(*range(1, 6))
    for wrong, found_at_five in ((5, 0.5), (4, 1.0)):
        texts = torch.cat([others[:wrong], directions(20, 90)])
        owners = torch.tensor([1] * wrong + [0, 1])
        result = retrieval_recall(directions(0, 90), texts, owners)
        assert result["image_to_text_r5"] == found_at_five
        assert result["image_to_text_r10"] == 1.0
        assert result["image_to_text_r1"] == 0.5


def test_equal_embeddings_hit_nothing() -> None:
    result = retrieval_recall(torch.ones(12, 4), torch.ones(12, 4), torch.arange(12))
    assert set(result.values()) == {0.0}


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(0, 20), st.integers(1, 15))
def test_equals_a_full_sort_for_any_chunk(seed: int, images: int, extra: int, chunk: int) -> None:
    rng = np.random.default_rng(seed)
    owners = np.concatenate([np.arange(images), rng.integers(0, images, extra)])
    left, right = rng.normal(size=(images, 8)), rng.normal(size=(len(owners), 8))
    result = retrieval_recall(*(torch.tensor(part) for part in (left, right, owners)), chunk=chunk)
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (left, right)]
    similarity = unit[0] @ unit[1].T
    for k in (1, 5, 10):
        by_image = np.argsort(-similarity, axis=1)[:, :k]
        by_text = np.argsort(-similarity, axis=0)[:k]
        to_text = np.mean([image in owners[row] for image, row in enumerate(by_image)])
        to_image = np.mean([owner in by_text[:, text] for text, owner in enumerate(owners)])
        assert result[f"image_to_text_r{k}"] == pytest.approx(to_text)
        assert result[f"text_to_image_r{k}"] == pytest.approx(to_image)


def test_a_feature_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        retrieval_recall(torch.ones(2, 4), torch.full((2, 4), torch.nan), torch.arange(2))


class PerfectText(torch.nn.Module):
    """A CLIP whose text side gives the image feature of the picture that a caption names."""

    def __init__(self, clip: torch.nn.Module, features: torch.Tensor) -> None:
        super().__init__()
        self.clip, self.features = clip, features

    def encode_image(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.clip.encode_image(pictures)

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.features[tokens[:, 0]]


def test_a_clip_on_a_coco_captions_file(clip_path: Path, tmp_path: Path) -> None:
    """Captions name their picture but for the two of picture 2, which both name picture 0. The sixth is not used."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(4)]
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    captions = [(0, "0")] * 6 + [(1, "1"), (2, "0"), (2, "0"), (1, "  ")]
    file = tmp_path / "captions.json"
    write_json(
        file,
        {
            "images": [{"id": number, "file_name": f"{number}.png"} for number in range(4)],
            "annotations": [{"image_id": image, "caption": caption} for image, caption in captions],
        },
    )
    clip = ClipFolder.open(clip_path).model()
    with torch.no_grad():
        features = clip.encode_image(torch.stack([normalized(picture) for picture in pictures]))
    result = evaluate_retrieval(
        PerfectText(clip, features),
        lambda texts: torch.tensor([[int(text)] for text in texts]),
        lambda picture: normalized(np.asarray(picture)),
        CocoCaptions(file, tmp_path),
        batch_size=2,
    )
    assert (result["images"], result["captions"], result["captions_beyond_limit"]) == (3, 8, 1)
    assert result["skipped"] == {"empty caption": 1, "image without caption": 1}
    assert result["image_to_text_r1"] == pytest.approx(1 / 3), "picture 0's five captions tie with picture 2's two"
    assert result["text_to_image_r1"] == pytest.approx(6 / 8)
    assert "3 images and 8 captions of captions.json" in result["protocol"]


def test_open_clips_model_tokenizer_and_transform_fit(clip_path: Path, tmp_path: Path) -> None:
    """The numbers are those of the features that open_clip gives picture by picture, caption by caption."""
    rng = np.random.default_rng(1)
    captions = ["a star", "a red moon", "two boats", "a ring", "the sea", "a kite"]
    for number in range(6):
        Image.fromarray(rng.integers(0, 256, (70, 90, 3), np.uint8)).save(tmp_path / f"{number}.png")
    file = tmp_path / "dataset_flickr30k.json"
    records = [
        {"filename": f"{number}.png", "split": "test", "sentences": [{"raw": caption}]}
        for number, caption in enumerate(captions)
    ]
    write_json(file, {"images": records})
    folder = ClipFolder.open(clip_path)
    model, tokenizer = folder.model(), folder.tokenizer()
    transform = image_transform(64, is_train=False)
    result = evaluate_retrieval(model, tokenizer, transform, KarpathyCaptions(file, tmp_path), batch_size=4)
    with torch.no_grad():
        images = [model.encode_image(transform(Image.open(tmp_path / f"{n}.png"))[None]) for n in range(6)]
        texts = [model.encode_text(tokenizer([caption])) for caption in captions]
    alone = retrieval_recall(torch.cat(images), torch.cat(texts), torch.arange(6))
    assert {key: result[key] for key in alone} == pytest.approx(alone)
    assert result["image_to_text_r10"] == 1.0 > result["image_to_text_r1"]
