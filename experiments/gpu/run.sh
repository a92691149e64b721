#!/usr/bin/env bash
# Everything that is to be measured on one GPU, in 25 minutes at most; see README.md.
#     experiments/gpu/run.sh --data-dir TFDS_DIR [--minutes 25] [--out FOLDER]
set -euo pipefail
cd "$(dirname "$0")/../.."
exec "${PYTHON:-python3}" -m experiments.gpu.run "$@"
