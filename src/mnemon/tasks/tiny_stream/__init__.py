"""The tiny stream: Mem-α in miniature, small enough that a model of half a million weights learns it on a CPU."""

from mnemon.tasks.tiny_stream.world import Chunk, Said, Stream, make_task, make_tasks, sample_stream

__all__ = ["Chunk", "Said", "Stream", "make_task", "make_tasks", "sample_stream"]
