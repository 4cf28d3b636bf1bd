"""Faster equals of plain modules: `accelerate.accelerate(model)` puts them in."""
