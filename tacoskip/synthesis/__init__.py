"""Using a trained voice: load it, synthesize short and long text."""
