"""Hyperparameter search: trials of several seeds, asked for in batches that train as arrays.

`settings` and `brackets` import neither torch nor Optuna; the other modules need both.
"""
