#!/bin/sh
# A Slurm of its own, for tests: one node, two partitions that say they are larger than this machine is.
#
#   tests/slurm/slurm.sh install         Debian's packages; needs root, and is never done by a test
#   tests/slurm/slurm.sh start FOLDER    then: export SLURM_CONF=FOLDER/slurm.conf
#   tests/slurm/slurm.sh stop FOLDER     ends jobs and daemons
#
# All of it lies in FOLDER: nothing in /etc or /var is read or written, and a Slurm that runs here already is not touched.
set -eu

start() {
    here=$(cd "$1" && pwd)
    for program in munged slurmctld slurmd sbatch; do
        PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null || { echo "no $program here: $0 install" >&2; exit 1; }
    done
    mkdir -m 700 -p "$here/munge" "$here/state" "$here/spool"
    (umask 077 && head -c 128 /dev/urandom >"$here/munge/key")
    ports=$(python3 -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in sockets))')
    host=$(hostname -s)
    cat >"$here/slurm.conf" <<CONF
ClusterName=cytolite
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${ports% *}
SlurmdPort=${ports#* }
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$here/munge/socket
CryptoType=crypto/munge
StateSaveLocation=$here/state
SlurmdSpoolDir=$here/spool
SlurmctldPidFile=$here/slurmctld.pid
SlurmdPidFile=$here/slurmd.pid
SlurmctldLogFile=$here/slurmctld.log
SlurmdLogFile=$here/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
DefMemPerCPU=1000
KillWait=2
MinJobAge=300
ReturnToService=2
NodeName=here NodeHostname=$host NodeAddr=127.0.0.1 CPUs=16 RealMemory=64000 State=UNKNOWN
PartitionName=small Nodes=here MaxTime=10 MaxCPUsPerNode=2 MaxMemPerNode=8000 State=UP
PartitionName=large Nodes=here MaxTime=60 State=UP Default=YES
CONF
    export SLURM_CONF="$here/slurm.conf" PATH="$PATH:/usr/sbin"
    munged --force --key-file="$here/munge/key" --socket="$here/munge/socket" --pid-file="$here/munge/pid" \
        --log-file="$here/munge/log" --seed-file="$here/munge/seed"
    slurmctld -f "$SLURM_CONF"
    slurmd -f "$SLURM_CONF"
    for _ in $(seq 100); do
        [ "$(sinfo --noheader --partition=large --format=%t 2>/dev/null)" = idle ] && return
        sleep 0.1
    done
    echo "Slurm's node does not become idle; see $here/slurmctld.log and $here/slurmd.log" >&2
    exit 1
}

stop() {
    here=$(cd "$1" && pwd)
    export SLURM_CONF="$here/slurm.conf"
    scancel --user="$(id -un)" 2>/dev/null || true
    for _ in $(seq 50); do
        [ -z "$(squeue --noheader 2>/dev/null)" ] && break
        sleep 0.1
    done
    for pid in "$here/slurmd.pid" "$here/slurmctld.pid" "$here/munge/pid"; do
        [ -f "$pid" ] && kill "$(cat "$pid")" 2>/dev/null || true
    done
}

case "${1-}" in
    install) apt-get install --yes --no-install-recommends slurm-wlm munge ;;
    start) start "$2" ;;
    stop) stop "$2" ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
