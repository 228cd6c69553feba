"""What happened: one MLflow run a stage, losses while training, and sidecars that link outputs to their runs."""
