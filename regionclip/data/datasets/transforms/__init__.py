"""Steps of MMDetection pipelines; importing this package registers them."""

from regionclip.data.datasets.transforms.load_ground_truth_as_proposals import LoadGroundTruthAsProposals
from regionclip.data.datasets.transforms.load_picture import LoadPicture
from regionclip.data.datasets.transforms.load_stored_proposals import LoadStoredProposals
from regionclip.data.datasets.transforms.resize import ResizeShortSide, ResizeWithin

__all__ = ["LoadGroundTruthAsProposals", "LoadPicture", "LoadStoredProposals", "ResizeShortSide", "ResizeWithin"]
