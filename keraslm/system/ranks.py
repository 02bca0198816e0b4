"""The processes of a training, as launchers describe them in the environment of each process."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from keraslm.errors import ConfigError


@dataclass(frozen=True)
class Ranks:
    """One of several processes that train together.

    Attributes:
        rank: the number of this process, from 0.
        size: number of processes.
        local_rank: the number of this process on its machine, from 0.
        address: host and port of process 0.
        launcher: `"torchrun"`, `"JAX"` or `"srun"`.
    """

    rank: int
    size: int
    local_rank: int
    address: str
    launcher: str


def ranks_of(environment: Mapping[str, str]) -> Ranks | None:
    """The processes that the environment describes; None if this process is alone.

    Three sets of variables count, in this order:

        torchrun   WORLD_SIZE, RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT
        JAX        JAX_NUM_PROCESSES, JAX_PROCESS_ID, JAX_COORDINATOR_ADDRESS
        srun       SLURM_STEP_NUM_TASKS, SLURM_PROCID, SLURM_LOCALID, SLURM_STEP_NODELIST, SLURM_JOB_ID

    The port of processes that srun started is 61440 plus the last 12 bits of the job's number, as in JAX.

    Raises:
        ConfigError: a variable is missing or no number.

    Example:
        >>> ranks_of({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1", "JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234"})
        Ranks(rank=1, size=2, local_rank=0, address='10.0.0.1:1234', launcher='JAX')
    """

    def text(name: str) -> str:
        if name not in environment:
            raise ConfigError(f"The environment describes several processes, but {name} is not set.")
        return environment[name]

    def number(name: str) -> int:
        value = text(name)
        if not value.isascii() or not value.isdigit():
            raise ConfigError(f"The environment variable {name} is {value!r}, not a number.")
        return int(value)

    found = None
    if "WORLD_SIZE" in environment and "RANK" in environment:
        address = f"{text('MASTER_ADDR')}:{number('MASTER_PORT')}"
        found = Ranks(number("RANK"), number("WORLD_SIZE"), number("LOCAL_RANK"), address, "torchrun")
    elif "JAX_COORDINATOR_ADDRESS" in environment and "JAX_NUM_PROCESSES" in environment:
        address = text("JAX_COORDINATOR_ADDRESS")
        found = Ranks(number("JAX_PROCESS_ID"), number("JAX_NUM_PROCESSES"), 0, address, "JAX")
    elif "SLURM_STEP_NUM_TASKS" in environment:
        address = f"{_first_host(text('SLURM_STEP_NODELIST'))}:{61440 + number('SLURM_JOB_ID') % 4096}"
        found = Ranks(number("SLURM_PROCID"), number("SLURM_STEP_NUM_TASKS"), number("SLURM_LOCALID"), address, "srun")
    if found and found.rank >= found.size:
        raise ConfigError(f"The environment says process {found.rank} of {found.size}, counted from 0.")
    return found if found and found.size > 1 else None


def local_environments(count: int, backend: str = "torch") -> list[dict[str, str]]:
    """The variables by which processes on this machine find each other, for each process; empty for a single one.

    They are those of JAX, or else of torchrun, with a port that is free now.

    Example:
        >>> [ranks_of(variables).rank for variables in local_environments(2)]
        [0, 1]
    """
    if count == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host, port = free.getsockname()
    found: list[dict[str, str]] = []
    for rank in range(count):
        if backend == "jax":
            numbers = {"JAX_PROCESS_ID": rank, "JAX_NUM_PROCESSES": count}
            place = {"JAX_COORDINATOR_ADDRESS": f"{host}:{port}"}
        else:
            numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
            place = {"MASTER_ADDR": host}
        found.append(place | {name: str(number) for name, number in numbers.items()})
    return found


def _first_host(nodes: str) -> str:
    """The first host of a node list, such as `node001` of `node[001-004,007],other`."""
    prefix, number = re.match(r"([^,\[]*)(?:\[(\d+))?", nodes).groups()  # type: ignore[union-attr]
    return prefix + (number or "")
