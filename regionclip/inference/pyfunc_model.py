"""The detector as an MLflow model, read by MLflow as code: no pickle. It loads where ``regionclip`` is installed."""

from __future__ import annotations

from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext
from numpy.typing import NDArray

from regionclip.errors import InputError
from regionclip.inference.api import SETTINGS, RegionCLIP
from regionclip.inference.sources import from_base64

_MEND = "give a picture file's bytes, their base64, or RGB pixels, and a list of names"


class RegionCLIPModel(PythonModel):
    """Rows of ``image`` and ``names`` to rows of ``detections``."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the bundle."""
        self._model = RegionCLIP.open(context.artifacts["bundle"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Find objects.

        Args:
            context: MLflow's.
            model_input: Columns ``image`` (the bytes of a picture file, base64 of them, or RGB pixels from 0 to 255,
                (H, W, 3), as an array of uint8 or nested lists; no path, because callers must not read files of the
                server) and ``names`` (a list of texts, what to look for).
            params: Any of `SETTINGS`, as in `RegionCLIP.detect`.

        Returns:
            Column ``detections``: for each row a list of score, label and box (xmin, ymin, xmax, ymax in pixels), as
            the ``zero-shot-object-detection`` pipeline of transformers gives them.

        Raises:
            InputError: A column is missing or more than these two, a value has another form; see also `Detector`.
        """
        settings, columns = params or {}, set(model_input.columns)
        if columns != {"image", "names"} or not settings.keys() <= set(SETTINGS):
            given = ", ".join(map(str, [*model_input.columns, *settings]))
            problem = f"wanted the columns image and names, and params of {', '.join(SETTINGS)}; found {given}"
            raise InputError(problem, mend=_MEND)
        found = []
        for image, names in zip(model_input["image"], model_input["names"], strict=True):
            # MLflow makes arrays of a column's lists.
            listed = names.tolist() if isinstance(names, np.ndarray) else names
            found.append(self._model(_picture(image), listed, **settings).to_hf())
        return pd.DataFrame({"detections": found}, index=model_input.index)


def _picture(image: Any) -> bytes | NDArray[np.uint8]:
    if isinstance(image, str):
        return from_base64(image)
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
