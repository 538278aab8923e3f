"""The largest memory of a process: a module of its own, since importing more would count."""

import resource
import sys
from pathlib import Path


def peak_bytes() -> int:
    """Largest resident set of this process so far.

    Linux's `ru_maxrss` begins with the peak of the process that started this one, `VmHWM` does not.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
