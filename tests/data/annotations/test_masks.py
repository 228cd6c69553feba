"""Masks: arrays and RLEs become RLEs that JSON holds and that decode to the same pixels; others are refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from regionclip.data.annotations.masks import checked_rle, encode_masks
from regionclip.errors import InputError


@settings(max_examples=50)
@given(arrays.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))))
def test_masks_survive_json(masks: np.ndarray) -> None:
    encoded = json.loads(json.dumps(encode_masks(masks)))
    assert all(tuple(rle["size"]) == masks.shape[1:] for rle in encoded)
    np.testing.assert_array_equal(coco_mask.decode(encoded).transpose(2, 0, 1), masks)


def test_rles_with_bytes_become_text() -> None:
    rle = coco_mask.encode(np.asfortranarray(np.eye(5, dtype=np.uint8)))
    assert isinstance(rle["counts"], bytes)
    assert (
        encode_masks([rle])
        == [{"size": [5, 5], "counts": rle["counts"].decode()}]
        == encode_masks(np.eye(5, dtype=bool)[None])
    )


def test_no_masks() -> None:
    assert encode_masks(np.zeros((0, 5, 5), bool)) == [] == encode_masks([])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[0, 0, 5, 0, 5, 5]], "not a compressed RLE"),
        ({"size": [5, 5], "counts": [25]}, "not a compressed RLE"),
        ({"size": [5, 6], "counts": "o0"}, r"size \[5, 6\], its picture \(5, 5\)"),
        ({"counts": "o0"}, r"size \[\]"),
        ({"size": [5, 5], "counts": "zzzzzz"}, "cannot be decoded.*exceed the mask dimensions"),
        ({"size": [5, 5], "counts": "P" * 18}, "cannot be decoded.*malformed"),
    ],
)
def test_what_is_no_rle_of_the_picture_is_refused(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        checked_rle(value, (5, 5), {"file": "found.json", "record": "detection 3"})
    assert (caught.value.file, caught.value.record, caught.value.key) == ("found.json", "detection 3", "segmentation")
