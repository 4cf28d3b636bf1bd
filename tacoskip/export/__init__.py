"""`tacoskip export`: a run as ONNX graphs that `tacoskip.load` takes in the run's place."""

from tacoskip.export.write import export

__all__ = ["export"]
