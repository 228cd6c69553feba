"""What a camera and a careless world do to a picture: litter on the ground, blur, light, noise, JPEG."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]


def litter(rng: np.random.Generator, ground: Image, most: int) -> Image:
    """Return ``ground`` (H, W, 3) with up to ``most`` twigs, pebbles and scraps drawn on it; they have no name."""
    side = ground.shape[0]
    mean = ground.mean((0, 1))
    image = np.clip(ground, 0, 255).astype(np.uint8)  # OpenCV draws soft edges on 8-bit pictures only
    for _ in range(int(rng.integers(most + 1))):
        colour = tuple(float(v) for v in np.clip(mean * rng.uniform(0.45, 1.35) + rng.normal(0, 14, 3), 0, 255))
        at = rng.uniform(0, side, 2)
        what = rng.random()
        if what < 0.4:
            steps = rng.normal(0, 5, (int(rng.integers(2, 5)), 2)) + rng.normal(0, 5, 2)
            points = np.round((at + np.cumsum(steps, 0)) * 16).astype(np.int32)
            cv2.polylines(image, [points], False, colour, 1, cv2.LINE_AA, 4)
        elif what < 0.75:
            axes = tuple(int(v) for v in rng.uniform(16, 56, 2))
            centre = tuple(int(v) for v in at * 16)
            cv2.ellipse(image, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA, 4)
        else:
            scrap = np.round((at + rng.normal(0, 3.5, (3, 2))) * 16).astype(np.int32)
            cv2.fillPoly(image, [scrap], colour, cv2.LINE_AA, 4)
    return image.astype(np.float32)


def expose(rng: np.random.Generator, image: Image) -> NDArray[np.uint8]:
    """Return ``image`` (H, W, 3) as uint8 RGB with mild blur, change of light and sensor noise."""
    if rng.random() < 0.25:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.75))
    tint = (rng.uniform(0.88, 1.1) * rng.uniform(0.97, 1.03, 3)).astype(np.float32)
    image = (image - 128) * np.float32(rng.uniform(0.9, 1.08)) + 128
    image = image * tint
    if rng.random() < 0.6:
        image += rng.standard_normal((*image.shape[:2], 1), dtype=np.float32) * np.float32(rng.uniform(1, 5))
    return np.clip(image, 0, 255).astype(np.uint8)


def jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    """Encode an RGB picture (H, W, 3) as JPEG."""
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
