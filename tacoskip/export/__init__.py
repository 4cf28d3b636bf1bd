"""The work of `tacoskip export`: a run as ONNX graphs; `tacoskip.exported` runs them.

A voice becomes an encoder, a decoder step and a post-net, a recognizer one network.
"""

from tacoskip.export.write import export, rows, summary

__all__ = ["export", "rows", "summary"]
