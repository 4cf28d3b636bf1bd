"""Using a recogniser: posteriors to text with times, files of any length, forced alignment."""
