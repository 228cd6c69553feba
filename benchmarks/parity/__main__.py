"""Run one of the official code's golden runs on our models: ``python -m benchmarks.parity --golden DIR --run NAME``.

The official state dict is rebuilt from the folder's recipe, saved, read by the official-checkpoint reader and loaded
strictly into our models. ``OUT/NAME.npz`` gets every output that the folder's README documents for the run.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.parity import finetune, pretrain, rpn, text, vit, zero_shot
from benchmarks.parity.compare import Verdict, compare
from benchmarks.parity.golden_folder import Arrays, GoldenFolder
from regionclip.errors import InputError
from regionclip.files import atomic_path

RUNS: dict[str, Callable[[GoldenFolder], Arrays]] = {
    "zs_coco": partial(zero_shot.run, dataset="coco"),
    "zs_lvis": partial(zero_shot.run, dataset="lvis"),
    "ft_coco": finetune.run,
    "pretrain": pretrain.run,
    "rpn_coco": partial(rpn.run, dataset="coco"),
    "rpn_lvis": partial(rpn.run, dataset="lvis"),
    "text": text.run,
    "vit_eva": partial(vit.run, family="eva"),
    "vit_openai": partial(vit.run, family="openai"),
}

INPUTS = re.compile(r"state\||img\d+$|boxes$")


def main(arguments: list[str] | None = None) -> int:
    """Run, write, and compare where asked.

    Returns:
        0, 1 if a deviation is too large, or the code of an input error.
    """
    options = _parser().parse_args(arguments)
    try:
        golden = GoldenFolder.open(options.golden)
        run = RUNS[options.run]
        if options.concepts:
            run = partial(text.run, concepts=options.concepts.read_text(encoding="utf-8").splitlines())
        arrays = run(golden)
    except InputError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    path = options.out / f"{options.run}.npz"
    # A path that does not end in .npz gets it from NumPy, an open file does not.
    with atomic_path(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)
    print(f"{path}: {len(arrays)} arrays")
    if not options.compare:
        return 0
    reference = golden.reference(options.run)
    if reference is None:
        print(f"{golden.path / options.run}.npz does not exist: nothing to compare with")
        return 0
    # What a run was given is no result of it.
    results = {key: value for key, value in reference.items() if not INPUTS.match(key)}
    verdicts = compare(arrays, results)
    _print(verdicts, sorted(arrays.keys() - results.keys()))
    return 0 if all(verdict.passed for verdict in verdicts) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.parity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--golden", type=Path, required=True, help="folder of inputs.npz, keys_*.json and recipe.py")
    parser.add_argument("--run", choices=RUNS, required=True, help="which run")
    parser.add_argument("--out", type=Path, required=True, help="folder for NAME.npz")
    parser.add_argument("--compare", action="store_true", help="print the worst deviations; exit 1 if one is too large")
    parser.add_argument("--concepts", type=Path, help="text: file of concepts, one a line, instead of the folder's")
    return parser


def _print(verdicts: list[Verdict], further: list[str]) -> None:
    table = Table("key", "compared", "worst deviation", "tolerance", "", title="ours against the official code")
    for verdict in sorted(verdicts, key=lambda v: v.passed):
        state = "ok" if verdict.passed else "FAILED"
        deviation, tolerance = (f"{value:.3g}" for value in (verdict.deviation, verdict.tolerance))
        table.add_row(verdict.key, verdict.kind, deviation, tolerance, f"{state} {verdict.note}".strip())
    console = Console(width=120)
    console.print(table)
    failed = sum(not verdict.passed for verdict in verdicts)
    console.print(f"{len(verdicts) - failed} passed, {failed} failed; {len(further)} further outputs have no reference")


if __name__ == "__main__":
    sys.exit(main())
