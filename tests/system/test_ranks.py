"""The processes of a training as torchrun, JAX and srun describe them."""

from __future__ import annotations

import pytest

from keraslm.errors import ConfigError
from keraslm.system.ranks import Ranks, local_environments, ranks_of

TORCHRUN = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "MASTER_ADDR": "node7", "MASTER_PORT": "29500"}
SRUN = {
    **{"SLURM_JOB_ID": "12345", "SLURM_STEP_NUM_TASKS": "16", "SLURM_PROCID": "9", "SLURM_LOCALID": "1"},
    "SLURM_STEP_NODELIST": "node[003,007-009],other",
}
JAX = {"JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (TORCHRUN, Ranks(3, 4, 1, "node7:29500", "torchrun")),
        (JAX, Ranks(1, 2, 0, "10.0.0.1:1234", "JAX")),
        (SRUN, Ranks(9, 16, 1, f"node003:{61440 + 12345 % 4096}", "srun")),
        ({**SRUN, "SLURM_STEP_NODELIST": "alone"}, Ranks(9, 16, 1, f"alone:{61440 + 12345 % 4096}", "srun")),
        ({**SRUN, "SLURM_STEP_NODELIST": "a1,b[2-3]"}, Ranks(9, 16, 1, f"a1:{61440 + 12345 % 4096}", "srun")),
        ({**SRUN, **TORCHRUN}, Ranks(3, 4, 1, "node7:29500", "torchrun")),  # torchrun within a job
        ({**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"}, None),
        ({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, None),  # a batch script, not a step
    ],
)
def test_a_launcher_describes_the_process(environment, expected):
    assert ranks_of(environment) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, "several processes, but MASTER_ADDR is not set"),
        ({**TORCHRUN, "RANK": "first"}, "RANK is 'first', not a number"),
        ({**TORCHRUN, "RANK": "4"}, "process 4 of 4, counted from 0"),
        ({**JAX, "JAX_NUM_PROCESSES": ""}, "JAX_NUM_PROCESSES is '', not a number"),
    ],
)
def test_an_incomplete_description_is_refused(environment, message):
    with pytest.raises(ConfigError, match=message):
        ranks_of(environment)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_local_processes_find_each_other(backend):
    found = [ranks_of(variables) for variables in local_environments(3, backend)]
    assert [(ranks.rank, ranks.size) for ranks in found] == [(0, 3), (1, 3), (2, 3)]
    assert len({ranks.address for ranks in found}) == 1 and found[0].address.startswith("127.0.0.1:")
    assert local_environments(1, backend) == [{}]
