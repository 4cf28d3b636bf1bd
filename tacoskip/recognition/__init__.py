"""Using a trained recognizer: load it, transcribe, decode, align."""
