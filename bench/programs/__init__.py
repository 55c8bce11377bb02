"""Whole programs that `footprint` compares: one process each, from start to first answer."""
