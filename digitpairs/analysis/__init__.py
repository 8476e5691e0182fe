"""Statistics, tables and plots, computed from the files of the runs."""
