"""Corpora of speech and text: read, checked and prepared once, then served as batches."""
