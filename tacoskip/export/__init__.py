"""`tacoskip export`: a run as ONNX graphs that `tacoskip.load` takes in the run's place."""

from tacoskip.export.write import export, rows, summary

__all__ = ["export", "rows", "summary"]
