"""The command ``regionclip retrieval``: image-text retrieval of a CLIP folder on captioned images."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_retrieval_command(commands: argparse._SubParsersAction) -> None:
    """Add the command to the subparsers of ``regionclip``."""
    text = "measure image-text retrieval, R@1/5/10 both ways, of a CLIP or RegionCLIP"
    parser = commands.add_parser(
        "retrieval",
        help=text,
        description=f"{text.capitalize()}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n"
        "  regionclip retrieval artifacts/pretrain --captions datasets/flickr30k/dataset_flickr30k.json "
        "--images datasets/flickr30k/flickr30k-images\n"
        "  regionclip retrieval weights/clip_rn50 --captions datasets/coco/annotations/captions_val2017.json "
        "--images datasets/coco/val2017",
    )
    parser.add_argument("clip", metavar="CLIP", help="CLIP folder, such as artifacts/pretrain")
    parser.add_argument("--captions", metavar="FILE", required=True, help="Karpathy JSON, or COCO captions JSON")
    parser.add_argument("--images", metavar="DIR", required=True, help="folder that file names start from")
    parser.add_argument("--split", default="test", help="split of a Karpathy JSON (default: %(default)s)")
    parser.set_defaults(run=_retrieval)


def _retrieval(chosen: argparse.Namespace) -> None:
    import open_clip

    from regionclip import runtime
    from regionclip.checkpoints.clip_folder import ClipFolder
    from regionclip.data.captions import open_captioned_images
    from regionclip.evaluation.retrieval import evaluate_retrieval

    file, images = Path(chosen.captions), Path(chosen.images)
    source = open_captioned_images(file, images, splits=(chosen.split,))
    clip = ClipFolder.open(chosen.clip)
    preprocess = open_clip.image_transform(clip.model_cfg["vision_cfg"]["image_size"], is_train=False)
    device = runtime.device()
    found = evaluate_retrieval(clip.model().to(device), clip.tokenizer(), preprocess, source, device=device)
    print(json.dumps(found, indent=2))
