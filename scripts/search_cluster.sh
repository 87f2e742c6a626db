#!/bin/sh
# Searches with a Dask scheduler and N workers on this machine, which end with the search (docs/clusters.md).
#
#   sh scripts/search_cluster.sh --workers 2 -- scripts/search_supernet.sh --dataset digits
#   sh scripts/search_cluster.sh --workers 2 -- ARGUMENTS OF search_supernet.py
#
# Each worker computes with one thread. The result is the same for any number of workers. Needs Dask
# (`sh scripts/setup.sh --cluster`). For several machines see `sh scripts/search_cluster.sh --help`.
# Results: as of the script that is run. The same command, with or without a cluster, continues a stopped search.
set -eu
exec sh "$(dirname -- "$0")/run.sh" utils.search_cluster "$@"
