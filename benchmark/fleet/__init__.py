"""Many recordings on Ray: faults, overhead, scaling and parts, measured."""
