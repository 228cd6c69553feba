"""RegionCLIP, the pipeline."""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path


class _MmcvOperators:
    """Finds ``mmcv._ext``, which mmcv-lite lacks, in ``mmcv_ops.py``."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        own = Path(__file__).with_name("mmcv_ops.py")
        return spec_from_file_location(name, own) if name == "mmcv._ext" else None


# Last, so that the operators of a compiled mmcv win.
sys.meta_path.append(_MmcvOperators)
