"""What was found on a picture, as arrays, and in the forms that other tools take."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from regionclip.data.pictures import FORMATS
from regionclip.errors import InputError, printable
from regionclip.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd
    import supervision


@dataclass(frozen=True, eq=False)
class Result:
    """The objects of one picture, the surest first. ``result[2]``, ``result[:5]`` and ``result[mask]`` select.

    Attributes:
        source: The picture's file, or its place in what was given.
        pixels: uint8 (H, W, 3), RGB: the picture as it was searched.
        vocabulary: K names that were looked for.
        boxes: (N, 4) float32: x1, y1, x2, y2 in pixels.
        scores: (N,) float32; comparable within one detector only.
        labels: (N,) int64, places in ``vocabulary``.
        masks: (N, H, W) bool where the detector has masks, else None.
        confidence: (N,) float32, the chance that each is right, where the detector is calibrated; NaN for names of a
            kind that no picture told of.
    """

    source: str
    pixels: NDArray[np.uint8]
    vocabulary: tuple[str, ...]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: NDArray[np.bool_] | None = None
    confidence: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, chosen: int | slice | NDArray[Any] | list[int]) -> Result:
        rows = np.arange(len(self))[chosen].reshape(-1)
        columns = {key: getattr(self, key) for key in ("boxes", "scores", "labels", "masks", "confidence")}
        return replace(self, **{key: value[rows] for key, value in columns.items() if value is not None})

    def __repr__(self) -> str:
        found = ", ".join(f"{name} {score:.2f}" for name, score in zip(self.names[:5], self.scores[:5], strict=True))
        return f"Result({self.source}: {len(self)} objects{': ' if found else ''}{found}{', ...' * (len(self) > 5)})"

    @property
    def names(self) -> list[str]:
        """The name of each object."""
        return [self.vocabulary[label] for label in self.labels.tolist()]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture, in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def filter(self, names: Collection[str] | None = None, threshold: float = 0.0) -> Result:
        """Return the objects of these names, and at least so sure."""
        if names is not None and (strange := set(names) - set(self.vocabulary)):
            raise InputError("it was not looked for", record=min(strange), key="names", mend="name one of vocabulary")
        chosen = self.scores >= threshold
        return self[chosen if names is None else chosen & np.array([name in names for name in self.names], bool)]

    def to_hf(self) -> list[dict[str, Any]]:
        """Return what the ``zero-shot-object-detection`` pipeline of transformers returns: score, label, box."""
        sides = ("xmin", "ymin", "xmax", "ymax")
        return [
            {"score": score, "label": name, "box": dict(zip(sides, box, strict=True))}
            for score, name, box in zip(self.scores.tolist(), self.names, self.boxes.tolist(), strict=True)
        ]

    def to_coco(self, image_id: int = 0, category_ids: Mapping[str, int] | None = None) -> list[dict[str, Any]]:
        """Return COCO results: image_id, category_id, bbox (x, y, width, height), score, and RLE where there are masks.

        Args:
            image_id: Of the picture.
            category_ids: The id of each name; default: its place in ``vocabulary``, from 1 on.
        """
        from regionclip.data.annotations.masks import encode_masks

        ids = category_ids or {name: place for place, name in enumerate(self.vocabulary, 1)}
        found = []
        rles = [None] * len(self) if self.masks is None else encode_masks(self.masks)
        for name, (x1, y1, x2, y2), score, rle in zip(
            self.names, self.boxes.tolist(), self.scores.tolist(), rles, strict=True
        ):
            row = {"image_id": image_id, "category_id": ids[name], "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
            found.append(row if rle is None else row | {"segmentation": rle})
        return found

    def to_yolo(self) -> str:
        """Return lines of YOLO's text files: place in ``vocabulary``; centre x, y, width, height, of 1; score."""
        corners = self.boxes / np.array([*self.size, *self.size], np.float32)
        centre, sides = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
        rows = np.concatenate([centre, sides, self.scores[:, None]], axis=1).tolist()
        texts = (" ".join(f"{value:.6f}" for value in row) for row in rows)
        return "".join(f"{label} {text}\n" for label, text in zip(self.labels, texts, strict=True))

    def to_dataframe(self) -> pd.DataFrame:
        """Return a table: source, name, score, x1, y1, x2, y2, and confidence where there is one."""
        import pandas as pd

        columns = {"source": unicode_of(self.source), "name": self.names, "score": self.scores}
        columns |= {} if self.confidence is None else {"confidence": self.confidence}
        return pd.DataFrame(columns | dict(zip(("x1", "y1", "x2", "y2"), self.boxes.T, strict=True)))

    def to_supervision(self) -> supervision.Detections:
        """Return ``supervision.Detections``, names under ``data["class_name"]``; the package is the user's own."""
        try:
            import supervision
        except ModuleNotFoundError:
            raise InputError(
                "the package is not installed", key="supervision", mend="pip install supervision"
            ) from None
        data = {"class_name": np.array(self.names, dtype=object)}
        return supervision.Detections(self.boxes, self.masks, self.scores, self.labels, data=data)

    def plot(self, out: str | Path | None = None, root: str | Path = ".") -> Image.Image:
        """Draw the boxes with names and scores; a name always has the same colour.

        Args:
            out: Where to write the drawing: a file, a folder, or None.
            root: In a folder, the drawing gets the picture's path from here on, or its whole path where it lies
                elsewhere: pictures of one name in several folders stay apart.

        Returns:
            The drawing, of the picture's size.
        """
        drawing = Image.fromarray(self._shaded())
        pen, line = ImageDraw.Draw(drawing), max(2, round(max(self.size) / 400))
        font = ImageFont.load_default(max(11, round(max(self.size) / 60)))
        # Weakest first, so that the surest lie on top.
        for name, score, box in reversed(list(zip(self.names, self.scores, self.boxes.tolist(), strict=True))):
            colour, text = _colour(name), f"{printable(name)} {score:.2f}"
            pen.rectangle(box, outline=colour, width=line)
            left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
            width, height = right - left + 6, bottom - top + 6
            x = max(0, min(box[0], self.size[0] - width))
            y = box[1] - height if box[1] >= height else box[1]
            pen.rectangle((x, y, x + width, y + height), fill=colour)
            pen.text((x + 3 - left, y + 3 - top), text, fill="white", font=font)
        if out is not None:
            file = Path(out)
            if file.is_dir() or not file.suffix:
                file /= path_below(self.source, normal(root))
                if Image.registered_extensions().get(file.suffix.lower()) not in FORMATS:
                    file = file.with_name(f"{file.name}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(file) as beside:
                drawing.save(beside, format=Image.registered_extensions().get(file.suffix.lower(), "PNG"))
        return drawing

    def _shaded(self) -> NDArray[np.uint8]:
        if self.masks is None or not len(self):
            return self.pixels
        shaded = self.pixels.astype(np.float32)
        for name, mask in zip(self.names, self.masks, strict=True):
            shaded[mask] = shaded[mask] / 2 + np.array(_colour(name), np.float32) / 2
        return shaded.astype(np.uint8)


def path_below(source: str, root: Path) -> Path:
    """Return what a file about a picture is called below a folder: other pictures' have other names.

    Args:
        source: The picture; of a video's frame the name ends with its number.
        root: Normal and absolute: where the path begins; that of a picture which lies elsewhere is its whole one.
    """
    file, mark, frame = source.rpartition("#")
    name = f"{file}_{int(frame):06d}.jpg" if mark and frame.isdecimal() else source
    path = normal(name)
    return path.relative_to(root if path.is_relative_to(root) else path.anchor)


def normal(path: str | Path) -> Path:
    """Return the absolute path without ``..``, by which a file might leave its folder; links stay what they are."""
    return Path(os.path.normpath(Path(path).absolute()))


def unicode_of(source: str) -> str:
    """Return a source for tables, which take no file name that is no Unicode: such bytes are escaped."""
    return source.encode(errors="backslashreplace").decode()


def _colour(name: str) -> tuple[int, int, int]:
    hue = hashlib.sha256(name.encode(errors="replace")).digest()[0] * 360 / 256
    return ImageColor.getrgb(f"hsl({hue}, 90%, 35%)")
