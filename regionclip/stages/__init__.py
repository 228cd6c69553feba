"""The pipeline's stages: one module a DVC stage; each reads params and files, calls domain packages, writes files."""
