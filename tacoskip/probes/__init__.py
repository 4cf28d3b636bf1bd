"""Measurements inside a stack: gradients, gates, lesions, reuse, and their pictures."""
