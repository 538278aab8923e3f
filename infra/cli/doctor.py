"""`discl doctor`: what is installed, devices, threads, disk, and what would be slow."""

import platform
import shutil
import sys
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from infra.machine import NOT_INSTALLED, PACKAGES, cpu_name, package_version
from infra.workers.base import available_cpus

OPTIONAL = ("datasets",)
ADVISED_MEMORY = 4e9
ADVISED_DISK = 2e9


def show_doctor() -> None:
    """Prints the findings; what is wrong or slow comes last."""
    import torch

    console = Console()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("python", f"{platform.python_version()} ({sys.executable})")
    table.add_row("system", f"{platform.system()} {platform.release()} {platform.machine()}")
    table.add_row("processor", f"{cpu_name()}, {available_cpus()} CPUs usable")
    table.add_row("torch threads", str(torch.get_num_threads()))
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(Path.cwd())
    table.add_row("memory", f"{memory.total / 1e9:.1f} GB, {memory.available / 1e9:.1f} GB free")
    table.add_row("disk here", f"{disk.total / 1e9:.0f} GB, {disk.free / 1e9:.0f} GB free")
    table.add_row("devices", ", ".join(_devices()))
    for name in (*PACKAGES, *OPTIONAL):
        table.add_row(name, package_version(name))
    console.print(table)
    warnings = _warnings(memory.available, disk.free)
    for line in warnings:
        console.print(f"[yellow]slow or missing[/yellow] {line}", highlight=False, soft_wrap=True)
    if not warnings:
        console.print("[green]nothing to complain about[/green]")


def _devices() -> list[str]:
    import torch

    found = ["cpu"]
    if torch.cuda.is_available():
        found += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def _warnings(free_memory: float, free_disk: float) -> list[str]:
    lines = []
    if len(_devices()) == 1:
        lines.append(
            "no GPU: the embedded generator makes about 100 images a second on a CPU, "
            "a Stable Diffusion checkpoint less than one a minute"
        )
    if free_memory < ADVISED_MEMORY:
        lines.append(f"{free_memory / 1e9:.1f} GB of memory are free; two workers want 4 GB")
    if free_disk < ADVISED_DISK:
        lines.append(f"{free_disk / 1e9:.1f} GB of disk are free; Ray alone spills from 2 GB on")
    lines += [
        f"{name} is not installed" for name in PACKAGES if package_version(name) == NOT_INSTALLED
    ]
    lines += [
        f"{name} is not installed: sources of that kind are not there (pip install "
        f"'diffusion-curriculum[{name}]')"
        for name in OPTIONAL
        if package_version(name) == NOT_INSTALLED
    ]
    return lines
