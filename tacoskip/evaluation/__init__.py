"""Metrics, error rates, evaluation of voices and recognizers."""
