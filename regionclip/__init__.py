"""RegionCLIP, the pipeline."""
