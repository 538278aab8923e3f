"""What can go wrong around the core; extends the tree of `generators.errors`.

DisclError
├── UserError
│   └── DataError
│       └── EmptyHardSet      no image is hard: there is nothing to multiply
├── WorkerError               a worker died or made no progress; its unit of work is retried
│   └── WorkerLost            with its machine: says nothing of the work
├── RunFailed                 work that failed in spite of its retries; finished work is kept
└── Interrupted               the user stopped the run; the same command continues it
"""

from generators.errors import DataError, DisclError


class EmptyHardSet(DataError):
    """No training image is hard. A mistake in a run; in a data set that grows, the goal."""


class WorkerError(DisclError):
    """A worker died or stalled in the middle of a job. Retrying on another worker may help."""


class WorkerLost(WorkerError):
    """A worker died with its machine. Says nothing of the work it was at."""


class RunFailed(DisclError):
    """Some units failed for good. What finished is on disk; the same command tries the rest."""


class Interrupted(DisclError):
    """The user stopped the run. The same command continues it."""
