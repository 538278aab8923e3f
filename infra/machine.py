"""What this machine is and which versions it runs: facts for reports."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from infra.workers.base import available_cpus

PACKAGES = ("torch", "diffusers", "timm", "transformers", "prefect", "ray", "webdataset", "pyarrow")

NOT_INSTALLED = "not installed"


def cpu_name() -> str:
    """The processor's name, as good as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def describe_machine() -> dict[str, str]:
    """Processor, cores, memory, devices."""
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cpu": cpu_name(),
        "cores": str(available_cpus()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "devices": ", ".join(devices) or "CPU only",
    }


def describe_versions() -> dict[str, str]:
    """Python, this project, and the libraries results depend on."""
    names = ("diffusion-curriculum", *PACKAGES)
    return {"python": platform.python_version()} | {name: package_version(name) for name in names}


def package_version(name: str) -> str:
    """The version of an installed package, or `not installed`."""
    try:
        return version(name)
    except PackageNotFoundError:
        return NOT_INSTALLED
