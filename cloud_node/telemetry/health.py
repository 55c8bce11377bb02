"""Whether the process is alive, and whether it takes requests: what probes and balancers ask."""

from __future__ import annotations

from enum import Enum


class Stage(Enum):
    """Of a cloud process's life, in this order."""

    STARTING = "starting"  # models load, and are probed
    READY = "ready"
    DRAINING = "draining"  # what was accepted ends, and nothing new is taken
    STOPPING = "stopping"


class Health:
    """The stage, which only goes forward. Set on one thread; any may read."""

    def __init__(self) -> None:
        self._stage = Stage.STARTING

    @property
    def stage(self) -> Stage:
        return self._stage

    @property
    def is_alive(self) -> bool:
        """Until it is about to stop: a process that drains is not to be killed for it."""
        return self._stage is not Stage.STOPPING

    @property
    def is_ready(self) -> bool:
        return self._stage is Stage.READY

    def enter(self, stage: Stage) -> None:
        order = list(Stage)
        if order.index(stage) > order.index(self._stage):
            self._stage = stage
