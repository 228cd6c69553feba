"""RegionCLIP, the pipeline. The detector is ``regionclip.RegionCLIP``; torch comes with its first use."""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regionclip.inference import Example, RegionCLIP, Result

__all__ = ["Example", "RegionCLIP", "Result"]


class _MmcvOperators:
    """Finds ``mmcv._ext``, which mmcv-lite lacks, in ``mmcv_ops.py``."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        own = Path(__file__).with_name("mmcv_ops.py")
        return spec_from_file_location(name, own) if name == "mmcv._ext" else None


# Last, so that the operators of a compiled mmcv win.
sys.meta_path.append(_MmcvOperators)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # By its name in a text: no stage depends on what it does not use.
    return getattr(import_module("regionclip.inference"), name)
