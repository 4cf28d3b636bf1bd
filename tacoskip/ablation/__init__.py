"""The lab: the same training with one thing changed, and what the difference is worth."""
