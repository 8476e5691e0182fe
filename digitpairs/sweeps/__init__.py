"""Sweeps: from composed configs to the files of their runs."""
