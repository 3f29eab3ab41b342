#!/usr/bin/env bash
# An experiment as a batch job of a cluster with Slurm. Submit it from the checkout, after `pip install -e '.[cuda]'`:
#
#   one GPU          sbatch examples/slurm.sh noise_maps --dataset=mnist --num_samples=1e9
#   several GPUs     sbatch --gpus-per-node=4 examples/slurm.sh noise_maps --dataset=mnist --num_samples=1e9
#   several hosts    sbatch --nodes=2 --gpus-per-node=4 --ntasks-per-node=4 examples/slurm.sh noise_maps ...
#
# Options before the script's name overrule the #SBATCH lines below. On one host one process takes all GPUs. On several
# hosts there is one process for each GPU, so --ntasks-per-node and --gpus-per-node are the same number; do not give
# --gpus-per-task, which hides the other GPUs from a process and so changes the number of its own.
#
# The checkout, --data_dir, --checkpoint_dir and --out_dir must be seen by all hosts under one name. Hosts without a way
# to the internet need the data set there beforehand. Add --partition and --account as your cluster wants them.

#SBATCH --job-name=wna_jax
#SBATCH --output=wna_jax-%j.log
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-gpu=8
#SBATCH --mem-per-gpu=16G
#SBATCH --time=01:00:00

# Two minutes before its time is over, the experiment (not this script) gets SIGTERM: it saves its state and ends with
# status 143. Then this script puts the job back into the queue, and it goes on from that state to the same bits. The
# same happens where Slurm itself takes a job away for a more urgent one. The log is then continued.
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append

set -euo pipefail

experiment=${1:?name an experiment: sbatch examples/slurm.sh noise_maps --dataset=mnist}
shift

together=()
if [ "${SLURM_NTASKS:-1}" -gt 1 ]; then
  together=(--coordinator=auto) # the processes find each other by what Slurm tells JAX
fi

status=0
srun --gpu-bind=none .venv/bin/python -m "experiments.$experiment" "$@" "${together[@]}" || status=$?
if [ "$status" -eq 143 ]; then
  echo "out of time: the job goes back into the queue"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
