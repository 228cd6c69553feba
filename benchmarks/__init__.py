"""What is measured, against what; results in ``benchmarks/results``."""
