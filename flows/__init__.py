"""When and where: Prefect flows that run the graph of dvc.yaml, promote models and keep the place tidy."""
