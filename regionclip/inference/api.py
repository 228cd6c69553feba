"""RegionCLIP, the Python API: finds on any pictures whatever it is given the names of."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from regionclip import runtime
from regionclip.data.pictures import Picture
from regionclip.errors import InputError, logger
from regionclip.files import sha256_file
from regionclip.inference import BATCH_SIZE, THRESHOLD
from regionclip.inference.calibration import Calibration
from regionclip.inference.results import Result
from regionclip.inference.sources import boxes_of, boxes_of_file, boxes_of_picture, check_form, open_source, pixels_of

# Torch and MMDetection take seconds to import, so they come when a detector is opened.
if TYPE_CHECKING:
    from regionclip.inference.files import DetectorFiles
    from regionclip.inference.networks import Found, Rules
    from regionclip.inference.vocabulary import Names, Vocabulary

Initialisation = Literal["clip", "regionclip"]
Boxes = NDArray[np.floating] | Sequence[Sequence[float]]
_LOGGER = logger(__name__)
REGISTRY = "models:/"
SETTINGS = ("threshold", "top_k", "max_detections", "iou", "agnostic")
"""Arguments of `RegionCLIP.detect` that are one number, and so the same through every door."""


class _Waiting(NamedTuple):
    source: str
    pixels: NDArray[np.uint8]  # BGR
    record: dict[str, Any]  # resized and packed


class RegionCLIP:
    """A fine-tuned open-vocabulary detector with the RPN that proposes regions and the CLIP that embeds names.

    It gives what the stage ``evaluate`` gives for the same names, up to float noise and, where that stage pads pictures
    of several sizes to one, the features near the border. Build one with `open`. Threads may share it.
    """

    def __init__(self, files: DetectorFiles, device: str | None = None) -> None:
        self.files = files
        with _quiet():
            from regionclip.inference.networks import Networks

            self._networks = Networks(files, runtime.device(device))
        self.calibration = _calibration(files)

    @classmethod
    def open(
        cls,
        source: str | Path = ".",
        dataset: str | None = None,
        initialisation: Initialisation | None = None,
        device: str | None = None,
    ) -> RegionCLIP:
        """Read a detector from a folder where the pipeline has run, from a bundle, or from MLflow's registry.

        Args:
            source: The folder, what `bundle` wrote, or ``models:/NAME@ALIAS``.
            dataset: The data set that it was trained on; None: the first of the params, or that of the bundle.
            initialisation: What it was trained from: ``regionclip``, the default, or ``clip``.
            device: ``cpu``, ``cuda`` or ``cuda:N``; None: as ``REGIONCLIP_DEVICE`` says, or a GPU if there is one.
                It works in the precision of ``REGIONCLIP_PRECISION``.

        Raises:
            InputError: A file is absent, broken or changed, or the bundle holds another detector.
        """
        _expect(source, (str, Path), "source", "a path")
        if dataset is not None:
            _expect(dataset, (str,), "dataset", "the name of a data set")
        if initialisation not in (None, *(known := get_args(Initialisation))):
            problem = f"{initialisation!r:.80} is unknown"
            raise InputError(problem, key="initialisation", mend=f"give {' or '.join(known)}")
        with _quiet():
            from regionclip.inference.files import MANIFEST, read_bundle, registered_bundle, workspace_files

        source = registered_bundle(source) if str(source).startswith(REGISTRY) else Path(source)
        if not source.is_dir():
            mend = "name a workspace or a bundle; `regionclip bundle` makes one of official checkpoints"
            raise InputError("there is no such folder", file=source, key="source", mend=mend)
        if not (source / MANIFEST).exists():
            return cls(workspace_files(source, dataset, initialisation or "regionclip"), device)
        files = read_bundle(source)
        for key, wanted in (("dataset", dataset), ("initialisation", initialisation)):
            if wanted not in (None, getattr(files, key)):
                problem = f"the bundle holds a detector of {getattr(files, key)}, not of {wanted}"
                raise InputError(problem, file=source / MANIFEST, key=key, mend="leave the argument out")
        return cls(files, device)

    def bundle(self, folder: str | Path) -> None:
        """Write all that the detector is made of to a folder that `open` reads on any machine.

        It holds the CLIP folder, checkpoints, params, and a manifest with the SHA-256 of each file.

        Raises:
            InputError: A file is damaged, or the folder holds something else than a bundle.
        """
        from regionclip.inference.files import write_bundle

        _expect(folder, (str, Path), "folder", "a path")
        write_bundle(self.files, folder)

    def export(self, folder: str | Path, names: Names | None = None) -> None:
        """Write ``detector.onnx`` and ``region_features.onnx`` with a README; with names, their embeddings too.

        Raises:
            InputError: The packages of the extra ``export`` are not installed, a name has several meanings, or the
                folder holds something else than an export.
        """
        _expect(folder, (str, Path), "folder", "a path")
        embeddings: dict[str, Any] = {}
        if names is not None:
            vocabulary = self.vocabulary(names)
            if vocabulary.owners is not None:
                raise InputError("ONNX takes one embedding a name", key="names", mend="give one text a name")
            embeddings = dict(zip(vocabulary.names, vocabulary.embeddings, strict=True))
        self._networks.export(self.files, folder, embeddings)

    def vocabulary(self, names: Names, background: Sequence[str] = ()) -> Vocabulary:
        """Embed names; what is returned can be given wherever names can.

        Names are embedded once, and a vocabulary of texts is kept, so a switch between two of them costs nothing.

        Args:
            names: K names, each once: as a list, as a file (one a line, COCO's JSON, or a text bank), as a `TextBank`,
                or as a mapping from each name to what it means: phrases, `Example` pictures, embeddings (D,), or
                several of them, of which the nearest counts: ``{"sofa": ["couch", "sofa"]}``.
            background: Texts that are only there to take false alarms away.

        Raises:
            InputError: There is no name, one stands twice, or is of another type; or a bank is of another CLIP.
        """
        return self._networks.vocabularies(names, background)

    def thresholds(self, names: Names, precision: float) -> dict[str, float]:
        """Return for `detect` the threshold of each name at which so many of the found were right; see `Calibration`.

        Raises:
            InputError: The detector is not calibrated, or the precision was not measured or not reached.
        """
        if self.calibration is None:
            mend = "run `regionclip calibrate`, or give a threshold"
            raise InputError("the detector is not calibrated", key="precision", mend=mend)
        return self.calibration.thresholds(self.vocabulary(names).names, precision)

    def __call__(self, picture: Picture, names: Names, boxes: Boxes | None = None, **settings: Any) -> Result:
        """Find objects on one picture; arguments as in `detect`."""
        check_form(picture, "picture")
        (result,) = self.detect([picture], names, None if boxes is None else [boxes], **settings)
        return result

    def detect(
        self,
        source: Any,
        names: Names,
        boxes: Sequence[Boxes] | Mapping[str, Boxes] | str | Path | None = None,
        *,
        threshold: float | Mapping[str, float] = THRESHOLD,
        top_k: int | None = None,
        max_detections: int | None = None,
        iou: float | None = None,
        agnostic: bool = False,
        background: Sequence[str] = (),
        batch_size: int = BATCH_SIZE,
        rejected: list[InputError] | None = None,
    ) -> Iterator[Result]:
        """Find objects on many pictures, one result after the other while they are read.

        Args:
            source: A picture, folder, glob, video file or camera's number, or an iterable of pictures and paths; see
                `open_source`. A picture is a path, bytes, a Pillow image, uint8 (H, W, 3) in RGB or a tensor of
                uint8 (3, H, W).
            names: What to look for; see `vocabulary`.
            boxes: (n, 4) x1, y1, x2, y2 of each picture, which are then classified as they are; by place, by file
                name, or as a COCO file; None: what the RPN proposes.
            threshold: Least score; one for all names, or one a name.
            top_k: The best of each name only.
            max_detections: The best of each picture only; None: as the params say.
            iou: Overlap from which the weaker of two boxes of one name goes; None: as the params say.
            agnostic: Of two boxes of different names the weaker goes, too.
            background: Texts that are only there to take false alarms away.
            batch_size: Pictures at a time. Only pictures of one size go together, so it alters no result.
            rejected: Gets the errors of pictures that cannot be decoded; None: the first one is raised.

        Raises:
            InputError: An argument or picture is wrong.
        """
        for key, value in (("batch_size", batch_size), ("top_k", top_k), ("max_detections", max_detections)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InputError(f"{value!r:.40} is no whole number from 1 on", key=key, mend="give 1 or more")
        if iou is not None and (isinstance(iou, bool) or not isinstance(iou, (int, float)) or not 0 <= iou <= 1):
            raise InputError(f"{iou!r:.40} is no number from 0 to 1", key="iou", mend="give one, or leave it out")
        from regionclip.inference.networks import Rules

        vocabulary = self.vocabulary(names, background)
        boxes = boxes_of_file(boxes) if isinstance(boxes, (str, Path)) else boxes
        rules = Rules(vocabulary, _thresholds(threshold, vocabulary.names), iou, max_detections, agnostic, top_k)
        return self._stream(source, boxes, rules, batch_size, rejected)

    def proposals(self, picture: Picture, most: int = 100) -> NDArray[np.float32]:
        """Return where the RPN sees objects of any kind: (n, 4) x1, y1, x2, y2 in pixels, the surest first."""
        return self._networks.propose(pixels_of(picture, "picture"))[:most]

    def features(self, picture: Picture, boxes: Boxes) -> NDArray[np.float32]:
        """Embed regions: (n, 4) x1, y1, x2, y2 in pixels to (n, D) float32, not normalised."""
        return self._networks.regions(pixels_of(picture, "picture"), boxes_of(boxes, "picture"), None)[0]

    def classify(
        self, picture: Picture, boxes: Boxes, names: Names, background: Sequence[str] = ()
    ) -> NDArray[np.float32]:
        """Return how likely each of n boxes shows each of K names: (n, K) float32, whose rows sum to at most 1."""
        vocabulary = self.vocabulary(names, background)
        return self._networks.regions(pixels_of(picture, "picture"), boxes_of(boxes, "picture"), vocabulary)[1]

    def similarity(self, features: NDArray[np.float32], names: Names) -> NDArray[np.float32]:
        """Return cosines (n, K) of `features` (n, D) with names; of what a name means the nearest counts."""
        vocabulary, given = self.vocabulary(names), np.asarray(features)
        width = vocabulary.embeddings.shape[1]
        if given.ndim != 2 or given.shape[1] != width or given.dtype.kind != "f":
            problem = f"{given.dtype} of shape {given.shape}, wanted floats (n, {width})"
            raise InputError(problem, key="features", mend="give what this model's `features` gave")
        return self._networks.similarity(given, vocabulary)

    def _stream(
        self,
        source: Any,
        boxes: Sequence[Boxes] | Mapping[str, Boxes] | None,
        rules: Rules,
        batch_size: int,
        rejected: list[InputError] | None,
    ) -> Iterator[Result]:
        waiting: list[_Waiting] = []
        for place, (name, pixels) in enumerate(open_source(source)):
            try:
                if isinstance(pixels, InputError):
                    raise pixels
                if boxes is None:
                    waiting.append(_Waiting(name, pixels, self._networks.prepare(pixels)))
                else:
                    found = self._networks.name(pixels, boxes_of_picture(boxes, name, place), rules)
                    yield self._result(name, pixels, found, rules)
            except InputError as error:
                if rejected is None:
                    raise
                rejected.append(error)
            if len(waiting) == batch_size:
                yield from self._in_order(waiting, rules)
                waiting.clear()
        yield from self._in_order(waiting, rules)

    def _in_order(self, waiting: Sequence[_Waiting], rules: Rules) -> list[Result]:
        """Search pictures in batches of one size: padding would change what is found near the border."""
        by_size: dict[tuple[int, ...], list[int]] = {}
        for place, one in enumerate(waiting):
            by_size.setdefault(tuple(one.record["inputs"].shape), []).append(place)
        found: dict[int, Found] = {}
        for places in by_size.values():
            records = [waiting[place].record for place in places]
            found.update(zip(places, self._networks.search(records, rules), strict=True))
        return [self._result(one.source, one.pixels, found[place], rules) for place, one in enumerate(waiting)]

    def _result(self, source: str, pixels: NDArray[np.uint8], found: Found, rules: Rules) -> Result:
        result = Result(source, np.ascontiguousarray(pixels[..., ::-1]), rules.vocabulary.names, *found)
        if self.calibration is not None:
            result = replace(result, confidence=self.calibration.confidence(result.scores, result.names))
        if rules.top_k is None:
            return result
        labels = result.labels.tolist()
        return result[[row for row, label in enumerate(labels) if labels[:row].count(label) < rules.top_k]]


def _quiet() -> AbstractContextManager[None]:
    """Keep what packages say of each other, when they are imported and put together, off the user's screen."""
    return warnings.catch_warnings(action="ignore")


def _calibration(files: DetectorFiles) -> Calibration | None:
    if files.calibration is None:
        return None
    calibration = Calibration.load(files.calibration)
    if calibration.detector_sha256 != sha256_file(files.detector):
        _LOGGER.warning("%s is of another detector and is not used; run `regionclip calibrate`", files.calibration)
        return None
    return calibration


def _thresholds(threshold: Any, names: Sequence[str]) -> NDArray[np.float32]:
    """Return the least score of each name, (K,)."""
    several = isinstance(threshold, Mapping)
    given, known = threshold if several else {"all": threshold}, {*names}
    if several and (strange := [name for name in given if name not in known]):
        raise InputError("it is not looked for", record=strange[0], key="threshold", mend="name one of the names")
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            problem, mend = f"{value!r:.40} is no number from 0 to 1", "give one for all names, or one a name"
            raise InputError(problem, record=name if several else None, key="threshold", mend=mend)
    if not several:
        return np.full(len(names), threshold, np.float32)
    return np.array([given.get(name, THRESHOLD) for name in names], np.float32)


def _expect(value: object, kinds: tuple[type, ...], key: str, words: str) -> None:
    """Refuse an argument of another type; a text in the place of a list would be taken for its letters."""
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise InputError(f"a {type(value).__name__} was given", key=key, mend=f"give {words}")
