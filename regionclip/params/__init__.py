"""Typed schema of params.yaml: one model a section; an unknown, missing or ill-typed key stops with its name."""

from regionclip.params.data import (
    CaptionFiles,
    CheckData,
    Data,
    DataSet,
    DemoWorld,
    OwnClasses,
    Quarantine,
    SetFiles,
)
from regionclip.params.document import Params, check_params, load_params
from regionclip.params.language import ClipArchitecture, Concepts, Teacher, TextBanks, TextTower, VisionTower
from regionclip.params.regions import CheckPseudoLabels, Detection, LossWeights, Pretrain, PseudoLabels, Rpn
from regionclip.params.training import GradientClip, Schedule, ValidatedSchedule, Validation
from regionclip.params.transfer import (
    DatasetFinetune,
    Evaluation,
    Finetune,
    ScoreThresholds,
    ZeroShot,
)

__all__ = [
    "CaptionFiles",
    "CheckData",
    "CheckPseudoLabels",
    "ClipArchitecture",
    "Concepts",
    "Data",
    "DataSet",
    "DatasetFinetune",
    "DemoWorld",
    "Detection",
    "Evaluation",
    "Finetune",
    "GradientClip",
    "LossWeights",
    "OwnClasses",
    "Params",
    "Pretrain",
    "PseudoLabels",
    "Quarantine",
    "Rpn",
    "Schedule",
    "ScoreThresholds",
    "SetFiles",
    "Teacher",
    "TextBanks",
    "TextTower",
    "ValidatedSchedule",
    "Validation",
    "VisionTower",
    "ZeroShot",
    "check_params",
    "load_params",
]
