"""Statistics and tables, computed from the runs' files alone."""
