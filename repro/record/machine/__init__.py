"""The machine: processors, memory, disks, GPUs, control groups, the container, energy."""
