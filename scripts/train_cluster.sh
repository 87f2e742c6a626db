#!/bin/sh
# Trains on several machines, or in several processes of one, by MXNet's distributed KVStore
# (docs/clusters.md).
#
#   sh scripts/train_cluster.sh --hosts FILE [--servers N] -- ARGUMENTS OF train_imagenet.py
#   sh scripts/train_cluster.sh --hosts FILE [--servers N] -- scripts/train_supernet.sh [ARGUMENTS]
#   sh scripts/train_cluster.sh --workers 2 --servers 1 -- scripts/train_supernet.sh --dataset digits
#
# FILE: a host a line, with the number of workers there if it is not 1; localhost is this machine, others are reached by
# ssh and have this folder at the same place. --batch-size is for each device of each worker.
# Trusted networks only: the servers believe whatever they are sent.
# Results: as of the script that is run, written by worker 0. The same command continues a stopped run.
set -eu
exec sh "$(dirname -- "$0")/run.sh" utils.launch_cluster "$@"
