"""The commands on params: ``regionclip new``, ``profile``, ``config`` for MMDetection, and ``bundle`` with them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from regionclip.cli_parts import add_command
from regionclip.errors import InputError

CONFIGS = ("rpn", "pretrain", "finetune", "zero_shot")


def add_params_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``new``, ``profile``, ``config`` and ``bundle``."""
    new = add_command(commands, "new", _new)
    new.add_argument("folder", metavar="FOLDER", help="one that is empty or not there, or a workspace")
    new.add_argument("--profile", metavar="NAME", default="demo", help="of its params (default: %(default)s)")
    profile = add_command(commands, "profile", _profile)
    profile.add_argument("name", metavar="NAME", nargs="?", help="of a profile; none: list them, a line each")
    profile.add_argument(
        "-o", "--write", metavar="FILE", nargs="?", const="params.yaml",
        help="write FILE, by default params.yaml; one that is there is kept as FILE.before",
    )  # fmt: skip
    config = add_command(commands, "config", _config)
    config.add_argument("of", metavar="STAGE", choices=CONFIGS, help=", ".join(CONFIGS))
    config.add_argument("--dataset", metavar="NAME", help="of finetune and zero_shot: one of data.sets")
    config.add_argument(
        "--model", choices=["clip", "regionclip"], default="regionclip", help="they start from (default: %(default)s)"
    )
    config.add_argument("--boxes", choices=["gt", "rpn"], default="rpn", help="of zero_shot (default: %(default)s)")
    config.add_argument("-o", "--out", metavar="FILE.py", help="file to write; by default it is shown")

    bundle = add_command(commands, "bundle", _bundle)
    bundle.add_argument(
        "detector", metavar="FILE", nargs="?", help="fine-tuned official one; none: the workspace's own"
    )
    bundle.add_argument("--rpn", metavar="FILE", help="its proposal network, or a file that holds one")
    bundle.add_argument("--clip", metavar="FILE", help="pretrained RegionCLIP, CLIP ResNet, or CLIP folder")
    bundle.add_argument("--profile", metavar="NAME", help="of its experiment, such as transfer_coco48_rn50")
    bundle.add_argument("--dataset", metavar="NAME", help="one of data.sets; by default the first")
    bundle.add_argument("-o", "--out", metavar="DIR", required=True, help="folder to write")


def _new(chosen: argparse.Namespace) -> None:
    """Make a workspace, or bring one to the installed version of the package. It has Git, DVC, dvc.yaml and
    params.yaml of its own; its stages depend on the version of the package in the place of its code.
    """
    from regionclip.runtime import VERSION
    from regionclip.workspace.new import bring_up_to_date, new_workspace

    folder = Path(chosen.folder)
    if (folder / VERSION).exists():
        kept = bring_up_to_date(folder)
        note = f"; what was there is in {kept}" if kept else ""
        print(f"{folder}: dvc.yaml and {VERSION} are those of the installed package{note}")
    else:
        new_workspace(folder, chosen.profile)
        print(f"{folder}: a workspace with the params of the profile {chosen.profile}")
        print(f"next: cd {folder} && dvc repro && git add . && git commit")


def _bundle(chosen: argparse.Namespace) -> None:
    """Write a detector as one folder that opens anywhere. It is the workspace's, or made of official checkpoints.

    examples:
      regionclip bundle -o detector
      regionclip bundle regionclip_finetuned-coco_rn50.pth --rpn rpn_coco_48.pth \\
        --clip regionclip_pretrained-cc_rn50.pth --profile transfer_coco48_rn50 -o detector
    """
    from regionclip.inference import files
    from regionclip.params import check_params

    if chosen.detector is None:
        files.write_bundle(files.workspace_files(Path(), chosen.dataset, "regionclip"), chosen.out)
    else:
        from regionclip.workspace.profiles import compose_profile

        if missing := [key for key in ("rpn", "clip", "profile") if getattr(chosen, key) is None]:
            raise InputError("an official detector needs it beside", key=f"--{missing[0]}", mend="give it")
        params = check_params(compose_profile(chosen.profile), f"profile {chosen.profile}")
        dataset = chosen.dataset or next(iter(params.finetune.sets))
        files.bundle_official(chosen.detector, chosen.rpn, chosen.clip, params, dataset, chosen.out)
    print(f"{chosen.out}: open it with RegionCLIP.open({str(chosen.out)!r})")


def _config(chosen: argparse.Namespace) -> None:
    """Write a stage's training and test as a config for MMDetection's own tools. It has the settings of params.yaml and
    what the stages before it left. `python -m regionclip.engine.mmdet_tools train FILE` (or test) runs it. The weights
    it starts from are written beside it.
    """
    from regionclip.files import write_text
    from regionclip.params import load_params
    from regionclip.stages.config import export

    weights = Path(chosen.out or f"{chosen.of}.py").with_suffix(".pth")
    text = export(chosen.of, load_params(), weights, chosen.dataset, chosen.model, chosen.boxes)
    if chosen.out is None:
        print(text)
    else:
        write_text(chosen.out, text)
    print(f"the model's weights are in {weights}", file=sys.stderr)


def _profile(chosen: argparse.Namespace) -> None:
    """List the profiles; show the whole params of one, or write them. A folder `profiles` beside params.yaml may hold
    your own, which name under `defaults` what it changes, such as `defaults: [transfer_coco48_rn50, _self_]`.
    """
    from regionclip.errors import InputError
    from regionclip.workspace.profiles import profile_text, profile_titles, replace_file

    if chosen.name is None:
        if chosen.write:
            raise InputError("no profile is named", mend="name one of those that `regionclip profile` lists")
        titles = profile_titles()
        for name, title in titles.items():
            print(f"{name:<{max(map(len, titles))}}  {title}")
        return
    text = profile_text(chosen.name)
    if chosen.write is None:
        print(text, end="")
        return
    replaced = replace_file(text, Path(chosen.write))
    print(f"{chosen.write}: {chosen.name}{f'; what was there is in {replaced}' if replaced else ''}")
