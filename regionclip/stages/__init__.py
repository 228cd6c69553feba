"""The pipeline's stages: one module a DVC stage, each reads params and files, calls the domain packages, writes files."""
