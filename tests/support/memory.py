"""The most memory that a process of its own has held, as an expression for it to evaluate.

Not `ru_maxrss`, which on Linux begins at what the process that started it has held.
"""

PEAK = "next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM'))"  # KiB
