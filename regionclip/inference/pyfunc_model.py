"""The detector as an MLflow model, read by MLflow as code: no pickle. It loads where ``regionclip`` is installed."""

from __future__ import annotations

import base64
from dataclasses import asdict
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext
from numpy.typing import NDArray

from regionclip.errors import InputError
from regionclip.inference import Detector

_MEND = "give a picture file's bytes, their base64, or RGB pixels, and a list of names"


class RegionCLIPModel(PythonModel):
    """Rows of ``image`` and ``names`` to rows of ``detections``."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the bundle."""
        self._detector = Detector.open(context.artifacts["bundle"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Find objects.

        Args:
            context: MLflow's.
            model_input: Columns ``image`` (the bytes of a picture file, base64 of them, or RGB pixels from 0 to 255,
                (H, W, 3), as an array of uint8 or nested lists; no path, because callers must not read files of the
                server) and ``names`` (a list of texts, what to look for).
            params: MLflow's; there are none.

        Returns:
            Column ``detections``: for each row a list of name, score and box (x1, y1, x2, y2 in pixels).

        Raises:
            InputError: A column is missing or more than these two, a value has another form; see also `Detector`.
        """
        if params or set(model_input.columns) != {"image", "names"}:
            given = ", ".join(map(str, [*model_input.columns, *(params or {})]))
            raise InputError(f"wanted the columns image and names, and no params, found {given}", mend=_MEND)
        found = []
        for image, names in zip(model_input["image"], model_input["names"], strict=True):
            # MLflow makes arrays of a column's lists.
            listed = names.tolist() if isinstance(names, np.ndarray) else names
            found.append([asdict(one) for one in self._detector(_picture(image), listed)])
        return pd.DataFrame({"detections": found}, index=model_input.index)


def _picture(image: Any) -> bytes | NDArray[np.uint8]:
    if isinstance(image, str):
        try:
            return base64.b64decode(image, validate=True)
        except ValueError:
            raise InputError("the text is not base64", key="image", mend=_MEND) from None
    if isinstance(image, list):
        try:
            pixels = np.array(image)
        except ValueError:
            raise InputError("the lists are not of one length", key="image", mend=_MEND) from None
        if pixels.dtype.kind not in "iu" or pixels.size and not 0 <= pixels.min() <= pixels.max() <= 255:
            raise InputError("the lists hold something else than whole numbers from 0 to 255", key="image", mend=_MEND)
        return pixels.astype(np.uint8)
    if not isinstance(image, bytes | np.ndarray):
        raise InputError(f"{type(image).__name__} is no form of a picture", key="image", mend=_MEND)
    return image


mlflow.models.set_model(RegionCLIPModel())
