#!/bin/bash
# Two hosts with 8 GPUs each: sbatch slurm.sh. One process a host; JAX finds the others by SLURM.
#SBATCH --job-name=ltjax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
srun --kill-on-bad-exit=1 ltjax --config imagenet_lt --data /shared/tfds \
    --workdir /shared/runs/imagenet_lt --distributed
