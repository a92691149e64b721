"""Native kernels of the training step on a CPU; XLA's own operators wherever they cannot be had."""
