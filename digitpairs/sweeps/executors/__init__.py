"""Executors: where the pieces of a sweep's plan are trained.

An executor takes pieces and yields messages about their runs (see `base`). The rest of the sweep
(plan, resume, locks, table, progress) does not know which executor it has.
"""
