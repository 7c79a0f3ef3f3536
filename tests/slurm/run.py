"""``make slurm-test``: a Slurm of this one machine, on which a small grid runs, loses a job, and is finished.

Wants root and the packages slurm-wlm and munge. Its daemons have their own ports and scratch folder and are stopped in the
end; only slurm.conf lies in /etc/slurm, because the engine's job steps look nowhere else. It is refused where one is there.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import nbformat

CONFIGURATION = Path("/etc/slurm/slurm.conf")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sinfo", "squeue", "scancel", "sbatch")
NOTEBOOK = """\
import json, os, pathlib, time

folder = pathlib.Path(os.environ["TOPO_RUN_FOLDER"])
assert "SLURM_JOB_ID" in os.environ
with open(folder.parent.parent / "executions.txt", "a") as counted:
    counted.write(f"{n}\\n")
time.sleep(wait)
(folder / "metrics.json").write_text(json.dumps([{"model": "vae", "kl": n * 0.5}]))
"""


def main() -> int:
    if os.geteuid() != 0:
        return complain("wanted root, who may start the daemons")
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        return complain(f"wanted the packages slurm-wlm and munge: there is no {', '.join(missing)}")
    if CONFIGURATION.exists():
        return complain(f"{CONFIGURATION} is there: this machine has a Slurm of its own, which is left alone")
    with tempfile.TemporaryDirectory(prefix="slurm-test-") as scratch, cluster(Path(scratch)):
        return sweep_with_a_lost_job(Path(scratch))


def sweep_with_a_lost_job(scratch: Path) -> int:
    """Run a grid, cancel one of its jobs, run it again: every run is done, once."""
    parameters = nbformat.v4.new_code_cell("n: int = 1\nwait: float = 20.0", metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[parameters, nbformat.v4.new_code_cell(NOTEBOOK)])
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(notebook, scratch / "slow.ipynb")
    (scratch / "tiny.yaml").write_text("- {notebook: slow, cross: {n: [1, 2, 3]}}\n")
    home = scratch / "home"
    os.environ["TOPO_HOME"] = str(home)
    command = [sys.executable, "-m", "topo_utils.runs.sweep", "start", str(scratch / "tiny.yaml")]
    command += ["--profile", "slurm", "--cores", "2"]
    engine = subprocess.Popen(command)
    counted = home / "executions.txt"
    wait_for("a first run on the cluster", lambda: counted.exists())
    lost = asked("squeue", "--noheader", "--states=RUNNING", "--format=%i").split()[0]
    print(f"-- job {lost} is cancelled", flush=True)
    asked("scancel", "--signal=KILL", "--full", lost)
    first = engine.wait()
    print(f"-- the engine ended with {first}; once more", flush=True)
    second = subprocess.run(command).returncode
    status = asked(sys.executable, "-m", "topo_utils.runs.sweep", "status", str(scratch / "tiny.yaml"))
    executed = sorted(counted.read_text().split())
    print(f"-- {status.strip()}; executed: {' '.join(executed)}", flush=True)
    good = first != 0 and second == 0 and status.startswith("3 done") and len(executed) == 4
    return 0 if good else complain("wanted a failed engine, then 3 runs done with 4 executions, one of them lost")


@contextmanager
def cluster(scratch: Path):
    """munged, slurmctld and slurmd, up; and stopped again."""
    host, cores = socket.gethostname(), os.cpu_count() or 1
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    key = scratch / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    scratch.chmod(0o755)
    munge = {each: scratch / f"munge.{each}" for each in ("socket", "pid", "log", "seed")}
    for folder in ("state", "spool"):
        (scratch / folder).mkdir()
    CONFIGURATION.parent.mkdir(exist_ok=True)
    CONFIGURATION.write_text(
        f"""\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={munge["socket"]}
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation={scratch}/state
SlurmdSpoolDir={scratch}/spool
SlurmctldPidFile={scratch}/slurmctld.pid
SlurmdPidFile={scratch}/slurmd.pid
SlurmctldLogFile={scratch}/slurmctld.log
SlurmdLogFile={scratch}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={pages // 2} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
    )
    files = [f"--{each}-file={munge[each]}" for each in ("pid", "log", "seed")]
    try:
        asked("munged", "--force", f"--key-file={key}", f"--socket={munge['socket']}", *files)
        asked("slurmctld", "-f", str(CONFIGURATION))
        asked("slurmd", "-f", str(CONFIGURATION))
        wait_for("an idle node", lambda: "idle" in asked("sinfo", "--noheader", "--format=%t"))
        yield
    except BaseException:
        for log in (scratch / "slurmctld.log", scratch / "slurmd.log"):
            if log.exists():
                print(f"-- {log.name}:\n{log.read_text()[-2000:]}", file=sys.stderr)
        raise
    finally:
        for pid in (scratch / "slurmd.pid", scratch / "slurmctld.pid", munge["pid"]):
            if pid.exists():
                subprocess.run(["kill", pid.read_text().strip()], check=False)
        CONFIGURATION.unlink()
        time.sleep(2)  # until they have written their last state


def asked(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wait_for(what: str, condition) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(1)
    raise SystemExit(f"waited ten minutes in vain for {what}")


def complain(message: str) -> int:
    print(f"slurm-test: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
