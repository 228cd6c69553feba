"""Training engine: MMEngine runners that resume exactly."""
