"""Fast replacements of plain modules."""
