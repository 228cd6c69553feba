"""The detector as an MLflow model, read by MLflow as code: no pickle. It loads where ``regionclip`` is installed."""

from __future__ import annotations

import base64
import binascii
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from regionclip.errors import InputError
from regionclip.inference import Detector


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
            model_input: Columns ``image`` (path, base64 of a picture file's bytes, bytes, or RGB pixels as an array or
                nested lists) and ``names`` (a list of what to look for).
            params: MLflow's; there are none.

        Returns:
            Column ``detections``: for each row a list of name, score and box (x1, y1, x2, y2 in pixels).

        Raises:
            InputError: See `Detector`.
        """
        rows = zip(model_input["image"], model_input["names"], strict=True)
        found = [[asdict(one) for one in self._detector(_picture(image), list(names))] for image, names in rows]
        return pd.DataFrame({"detections": found}, index=model_input.index)


def _picture(image: Any) -> Any:
    if isinstance(image, list):
        return np.array(image, dtype=np.uint8)
    if not isinstance(image, str):
        return image
    try:
        if Path(image).is_file():
            return Path(image)
    except OSError:
        # Too long for a path.
        pass
    try:
        return base64.b64decode(image, validate=True)
    except binascii.Error:
        problem = f"'{image[:60]}' is neither a file nor base64"
        raise InputError(problem, key="image", mend="give a path, or a picture file's bytes as base64") from None


mlflow.models.set_model(RegionCLIPModel())
