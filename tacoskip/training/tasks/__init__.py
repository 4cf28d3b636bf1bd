"""The tasks: what differs between training a voice and training a recognizer."""

from collections.abc import Callable

from tacoskip.training.tasks.asr import RecognizerTask
from tacoskip.training.tasks.base import Task
from tacoskip.training.tasks.tts import VoiceTask

__all__ = ["TASKS", "Task"]

TASKS: dict[str, Callable[..., Task]] = {"tts": VoiceTask, "asr": RecognizerTask}
