"""Compiled layers on a machine with a GPU: build.py makes what is carried there, run.py runs it."""
