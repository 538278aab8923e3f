"""What can go wrong around the core; extends the tree of `generators.errors`.

DisclError
├── WorkerError               a worker died or made no progress; its unit of work is retried
├── RunFailed                 work that failed in spite of its retries; finished work is kept
└── Interrupted               the user stopped the run; the same command continues it
"""

from generators.errors import DisclError


class WorkerError(DisclError):
    """A worker died or stalled in the middle of a job. Retrying on another worker may help."""


class RunFailed(DisclError):
    """Some units failed for good. What finished is on disk; the same command tries the rest."""


class Interrupted(DisclError):
    """The user stopped the run. The same command continues it."""
