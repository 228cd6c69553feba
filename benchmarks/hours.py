"""GPU hours and cost of the paper's profiles, from measured rates: run ``python -m benchmarks.hours --price 2.5``.

The rates are of others' V100 in single precision. Where ``make bench-cuda`` was run, its GPU has a column too.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.paired import RESULTS
from regionclip.files import read_json
from regionclip.params import Params, check_params
from regionclip.workspace.profiles import compose_profile, profile_titles

# Pictures a second of one V100. Detectron2's MODEL_ZOO.md: seconds an iteration of 16 pictures on 8 GPUs. The author of
# RegionCLIP (issue): 32 GPUs took 6 days for 600,000 iterations of 96 pictures, with teacher and RPN in each step.
V100 = {
    "finetune": 16 / 0.551 / 8,  # Faster R-CNN R50-C4, 512 regions a picture
    "pretrain": 600_000 * 96 / (32 * 6 * 86_400),
    "r50_c4": 16 / 0.130 / 8,  # RPN alone
    "r50_fpn": 16 / 0.186 / 8,
}
# No rate of these was published; they are slower than RN50's by their multiply-adds.
RN50X4 = {"pretrain": 3.3, "finetune": 3.7}
# Large-scale jittering pads to 1024 x 1024; the rate is of 800 x 1088 pixels and falls with their number.
JITTERED = 1024 * 1024 / (800 * 1088)


class Hours(NamedTuple):
    """One stage of a profile.

    Attributes:
        stage: Its name; of ``finetune`` with the data set.
        pictures: What its schedule trains on, counted as often as they are seen.
        v100: Hours of one V100 in single precision.
        here: Hours of the GPU that ``make bench-cuda`` measured, in bfloat16; None without.
    """

    stage: str
    pictures: int
    v100: float
    here: float | None


def hours(params: Params, measured: dict[str, Any] | None = None) -> list[Hours]:
    """Return what each training of a profile takes.

    Args:
        params: The profile.
        measured: ``cuda.json`` of ``make bench-cuda``; its rates are of RN50.
    """
    large = RN50X4 if "x4" in (params.teacher.model or params.teacher.weights or "") else dict.fromkeys(RN50X4, 1.0)
    works = measured["works"] if measured else {}
    found = []

    def add(stage: str, schedule: Any, rate: float, slower: float, work: str) -> None:
        pictures = schedule.iterations * schedule.batch_size
        here = pictures * slower / works[work]["images_per_second"] / 3600 if work in works else None
        found.append(Hours(stage, pictures, pictures * slower / rate / 3600, here))

    if params.rpn.weights is None:
        jittered = params.rpn.augmentation == "large_scale_jitter"
        kind = params.rpn.architecture.removesuffix("_lsj")
        add("rpn", params.rpn.schedule, V100[kind], JITTERED if jittered else 1.0, "")
    if params.pretrain.weights is None:
        add("pretrain", params.pretrain.schedule, V100["pretrain"], large["pretrain"], "pretraining_joint")
    for name, target in params.finetune.sets.items():
        if target.weights is None:
            add(f"finetune@{name}", target.schedule, V100["finetune"], large["finetune"], "finetuning")
    return found


def main() -> None:
    """Print the table of all profiles of the paper."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--price", type=float, default=2.0, help="of a GPU hour, for the column of cost")
    parser.add_argument("--measured", type=Path, default=RESULTS / "cuda.json", help="what make bench-cuda wrote")
    chosen = parser.parse_args()
    measured = read_json(chosen.measured) if chosen.measured.exists() else None
    print("| profile | stage | million pictures | V100 hours | GPU hours here | cost |")
    print("|---|---|---:|---:|---:|---:|")
    # Nobody published rates of transformers.
    for name in sorted(name for name in set(profile_titles()) - {"demo", "tiny", "tiny_vit"} if "_eva_" not in name):
        for row in hours(check_params(compose_profile(name), name), measured):
            here = "" if row.here is None else f"{row.here:,.0f}"
            cost = chosen.price * (row.v100 if row.here is None else row.here)
            print(f"| {name} | {row.stage} | {row.pictures / 1e6:.1f} | {row.v100:,.0f} | {here} | {cost:,.0f} |")


if __name__ == "__main__":
    main()
