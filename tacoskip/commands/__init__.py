"""The commands, as `tacoskip.cli` lists them: heavy imports stay inside each."""
