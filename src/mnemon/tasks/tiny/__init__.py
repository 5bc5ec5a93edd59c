"""The tiny world: a task small enough that a model of half a million weights learns memory management on a CPU."""

from mnemon.tasks.tiny.world import Episode, Event, make_task, make_tasks, sample_episode

__all__ = ["Episode", "Event", "make_task", "make_tasks", "sample_episode"]
