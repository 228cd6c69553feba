"""Where pictures come from: files, folders, globs, videos, cameras and what is in memory, one after the other."""

from __future__ import annotations

import base64
import glob
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from regionclip.data.pictures import FORMATS, Picture, to_bgr
from regionclip.errors import InputError

VIDEOS = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"})
_AHEAD = 8  # pictures that are decoded before they are asked for
_MAGIC = frozenset("*?[")


class Example(NamedTuple):
    """An object on a picture, in the place of words.

    Attributes:
        picture: In any form that `RegionCLIP` takes.
        box: x1, y1, x2, y2 in its pixels.
    """

    picture: Picture
    box: tuple[float, float, float, float]


class Opened(NamedTuple):
    """A picture of a source.

    Attributes:
        source: Its file; of a video's frame the file, # and its number; of a picture in memory its place in the list.
        pixels: uint8 (H, W, 3), BGR, or why there are none.
    """

    source: str
    pixels: NDArray[np.uint8] | InputError


def check_form(picture: Any, source: str) -> None:
    """Refuse what is of no form of a picture; tensors are known by what they can do."""
    if not hasattr(picture, "permute") and not isinstance(picture, (str, Path, bytes, Image.Image, np.ndarray)):
        problem = f"a {type(picture).__name__} was given"
        raise InputError(problem, record=source, key="picture", mend="give a path, bytes, a picture or pixels")


def pixels_of(picture: Any, source: str) -> NDArray[np.uint8]:
    """Return a picture as uint8 (H, W, 3), BGR; see `to_bgr`, which knows all forms but tensors.

    Raises:
        InputError: It cannot be decoded, or is of no form that is known; the message names ``source``.
    """
    check_form(picture, source)
    if hasattr(picture, "permute"):
        # As torchvision reads pictures: uint8 (3, H, W), RGB.
        picture = np.moveaxis(np.atleast_1d(picture.numpy(force=True)), 0, -1)
    try:
        return to_bgr(picture)
    except InputError as error:
        if error.file is not None:
            raise
        raise InputError(error.problem, record=source, key=error.key, mend=error.mend) from None


def boxes_of(boxes: Any, source: str) -> NDArray[np.float32]:
    """Return a caller's boxes as (n, 4) float32, x1, y1, x2, y2.

    Raises:
        InputError: They are no such rows, or one is not finite or ends before it begins.
    """
    mend = "give rows of x1, y1, x2, y2 in pixels with x1 < x2 and y1 < y2"
    try:
        found = np.asarray(boxes, np.float32).reshape(-1, 4)
    except (TypeError, ValueError):
        raise InputError("not (n, 4) numbers", record=source, key="boxes", mend=mend) from None
    wrong = ~(np.isfinite(found).all(axis=1) & (found[:, 2:] > found[:, :2]).all(axis=1))
    if wrong.any():
        problem = f"box {int(wrong.argmax())} is not finite, or ends before it begins"
        raise InputError(problem, record=source, key="boxes", mend=mend)
    return found


def from_base64(text: str) -> bytes:
    """Return a picture file's bytes from their base64, plain or as a data URL.

    Raises:
        InputError: It is something else; the message repeats none of it.
    """
    head, comma, rest = text.partition(",") if text.startswith("data:") else ("", "", text)
    try:
        if comma and not head.endswith(";base64"):
            raise ValueError
        return base64.b64decode(rest, validate=True)
    except ValueError:
        mend = "give the bytes of a picture file in base64, plain or as a data URL"
        raise InputError("the text is not base64", key="image", mend=mend) from None


def open_source(source: Any, skip: Callable[[str], bool] = lambda name: False) -> Iterator[Opened]:
    """Yield the pictures of a source, decoded ahead of their use, in order; folders and globs sorted by name.

    Args:
        source: A picture in any form that `pixels_of` knows; a folder, whose pictures are taken at any depth; a glob;
            a video file; the number of a camera; or an iterable of pictures, opened ones too, and of paths of all
            these.
        skip: Says of a picture's name whether it is left out; asked once of each, in order.

    Raises:
        InputError: There is no such file, a folder or glob has no picture, or a video or camera cannot be opened. A
            picture that cannot be decoded is yielded with its error instead.
    """
    with ThreadPoolExecutor(1) as pool:
        pending: deque[tuple[str, Future]] = deque()
        for name, read in _readers(source):
            if skip(name):
                continue
            pending.append((name, pool.submit(_outcome, read)))
            if len(pending) > _AHEAD:
                name, future = pending.popleft()
                yield Opened(name, future.result())
        yield from (Opened(name, future.result()) for name, future in pending)


def boxes_of_file(file: str | Path) -> dict[str, NDArray[np.float32]]:
    """Read the boxes of a COCO or LVIS file: file name -> (n, 4) x1, y1, x2, y2; crowds left out.

    Raises:
        InputError: The file is absent or broken, or a record in it is not sound.
    """
    from regionclip.data.annotations.annotation_files import picture_name, read_boxes
    from regionclip.data.annotations.truth import boxes_by_image, truth_of

    truth = truth_of(read_boxes(file, facts={"name"}, without=("segmentation",)))
    boxes = boxes_by_image(truth)
    return {picture_name(image): boxes[image["id"]][0] for image in truth.images}


def boxes_of_picture(boxes: Mapping[str, Any] | Sequence[Any], source: str, place: int) -> NDArray[np.float32]:
    """Return the boxes of a picture from those of all, as `boxes_of` does.

    Args:
        boxes: By place, or named by their files from any folder above them on.
        source, place: Of the picture.

    Raises:
        InputError: None are there, or they are no boxes.
    """
    if not isinstance(boxes, Mapping):
        if not hasattr(boxes, "__len__") or place >= len(boxes):
            problem = f"no boxes are given for picture {place}"
            raise InputError(problem, record=source, key="boxes", mend="give some, or [], for every picture")
        return boxes_of(boxes[place], source)
    parts = Path(source).parts
    name = next((name for start in range(len(parts)) if (name := "/".join(parts[start:])) in boxes), source)
    if name not in boxes:
        raise InputError("no boxes are given for it", record=source, key="boxes", mend="name it among the boxes")
    return boxes_of(boxes[name], source)


def _outcome(read: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8] | InputError:
    try:
        return read()
    except InputError as error:
        return error


def _readers(source: Any, place: int = 0) -> Iterator[tuple[str, Callable[[], NDArray[np.uint8]]]]:
    """Yield names, and what reads the pixels."""
    is_camera = isinstance(source, int) and not isinstance(source, bool)
    if is_camera or (isinstance(source, (str, Path)) and is_video(source)):
        for number, frame in enumerate(_frames(source)):
            yield f"{'camera ' if is_camera else ''}{source}#{number}", lambda frame=frame: frame
    elif isinstance(source, (str, Path)):
        for file in picture_files(source):
            yield str(file), lambda file=file: pixels_of(file, str(file))
    elif hasattr(source, "permute") or isinstance(source, (bytes, Image.Image, np.ndarray)):
        name = getattr(source, "filename", "") or f"picture {place}"
        yield str(name), lambda: pixels_of(source, name)
    elif isinstance(source, Iterable) and not isinstance(source, (dict, bytearray)):
        for number, part in enumerate(source):
            if isinstance(part, Opened):
                yield part.source, lambda part=part: part.pixels
                continue
            if isinstance(part, (list, tuple, int)):
                problem = f"a {type(part).__name__} was given"
                raise InputError(problem, record=f"picture {number}", key="source", mend="give pictures or paths")
            yield from _readers(part, number)
    else:
        problem = f"a {type(source).__name__} was given"
        raise InputError(problem, key="source", mend="give a picture, a path, a list of them, or a camera's number")


def is_video(source: str | Path) -> bool:
    """Say whether a path is taken for a video."""
    return Path(source).suffix.lower() in VIDEOS and not Path(source).is_dir()


def picture_files(source: str | Path) -> list[Path]:
    """Return the files of a folder, at any depth, or of a glob, sorted by name; or the one that a path names.

    Raises:
        InputError: A folder or glob has no picture.
    """
    path = Path(source)
    if path.is_dir():
        kinds = {ending for ending, kind in Image.registered_extensions().items() if kind in FORMATS}
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in kinds and file.is_file())
    elif path.exists() or not _MAGIC & set(str(source)):
        return [path]  # that it is absent is said where it is read
    else:
        # Path's own takes no absolute patterns.
        named = glob.glob(str(source), recursive=True)  # noqa: PTH207
        found = [file for file in map(Path, sorted(named)) if file.is_file()]
    if not found:
        mend = f"name a folder or files of {', '.join(FORMATS)}"
        raise InputError("there are no pictures", file=source, mend=mend)
    return found


def _frames(source: int | str | Path) -> Iterator[NDArray[np.uint8]]:
    if not isinstance(source, int) and not Path(source).is_file():
        raise InputError("the video does not exist", file=source, mend="put it there, or name another")
    import cv2

    capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    try:
        if not capture.isOpened():
            where = f"camera {source}" if isinstance(source, int) else source
            raise InputError("it cannot be opened", file=where, mend="give a video that OpenCV reads, or a camera")
        while True:
            read, frame = capture.read()
            if not read:
                return
            yield frame
    finally:
        capture.release()
