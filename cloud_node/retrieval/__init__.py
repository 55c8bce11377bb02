"""Indexes of vectors on disk."""
