"""What programs do before they load anything: streams, warnings, the backend of figures, and Ctrl-C meanwhile."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

FIRST = "import sys\nimport spos.core.startup\n"
PROGRAMS = [
    path.relative_to(ROOT)
    for folder in (ROOT, ROOT / "utils", ROOT / "benchmarks")
    for path in (*folder.glob("*.py"), *folder.glob("*/__main__.py"))
    if "run_program(main" in path.read_text("utf-8")
]


def run(code, closed="", **environ):
    words = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", code]
    own = {**os.environ, **environ}
    return subprocess.run(words, cwd=ROOT, env=own, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_it_is_the_first_thing_of_every_program(program):
    """Before any import but that of `__future__`, and what a program that is called by its file needs to find it."""
    lines = (ROOT / program).read_text("utf-8").splitlines()
    imports = [line.strip() for line in lines if line.strip().startswith(("import ", "from "))]
    first = next(i for i, line in enumerate(imports) if line.startswith("import spos.core.startup"))
    is_called_by_file = any("if not __package__" in line for line in lines)
    to_find_it = {"import sys", "from pathlib import Path"} if is_called_by_file else set()
    assert imports[0] == "from __future__ import annotations"
    assert {line for line in imports[1:first] if not line.startswith("from typing ")} <= to_find_it
    before = lines[lines.index(next(line for line in lines if "import spos.core.startup" in line)) - 1]
    assert before == 'if __name__ == "__main__":'  # others may import the module


@pytest.mark.parametrize("closed", (">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"))
def test_closed_streams_are_null_devices_and_no_file_takes_their_place(closed, tmp_path):
    file = tmp_path / "file"
    code = (
        f"{FIRST}import os\nfile = open({str(file)!r}, 'w')\nassert file.fileno() > 2\nprint('out')\n"
        "print('err', file=sys.stderr)\nos.write(1, b'out')\nos.write(2, b'err')\nassert sys.stdin.read() == ''\n"
        "sys.stdout.flush()\nassert not sys.stderr.isatty()\nfile.write('done')\nfile.close()"
    )
    words = ["sh", "-c", f'exec "$@" {closed if "<" in closed else closed + " </dev/null"}', "sh", sys.executable]
    done = subprocess.run([*words, "-c", code], cwd=ROOT, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert file.read_text() == "done"


@pytest.mark.parametrize("value", ("error", "error::DeprecationWarning", "e"))
def test_warnings_are_no_errors_for_it_and_what_it_starts(value):
    code = (
        f"{FIRST}import subprocess, warnings\nwarnings.warn('old', DeprecationWarning)\n"
        "test = 'import warnings; warnings.warn(\"old\", DeprecationWarning)'\n"
        "sys.exit(subprocess.run([sys.executable, '-c', test], stderr=subprocess.DEVNULL).returncode)"
    )
    done = run(code, PYTHONWARNINGS=value)
    assert (done.returncode, done.stderr) == (0, "")
    assert run("import warnings; warnings.warn('old', DeprecationWarning)", PYTHONWARNINGS=value).returncode == 1


@pytest.mark.parametrize("backend", ("module://another_notebook.backend", "Qt5Agg", "nonsense"))
def test_figures_need_no_backend_of_the_environment(backend):
    done = run(f"{FIRST}import matplotlib.pyplot as plt\nplt.figure()\nprint(plt.get_backend())", MPLBACKEND=backend)
    assert done.returncode == 0 and done.stdout.strip().lower() == "agg", done.stderr


def interrupt_while_loading(program, seconds, signum=signal.SIGINT):
    def listen():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it

    command = [sys.executable, *program, "--help"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, preexec_fn=listen)
    time.sleep(seconds)
    process.send_signal(signum)
    _, printed = process.communicate(timeout=60)
    return process.returncode, printed


@pytest.mark.parametrize("program", (["search_supernet.py"], ["-m", "utils.predict"]), ids=" ".join)
def test_ctrl_c_while_modules_load_is_one_line(program):
    code, printed = interrupt_while_loading(program, 0.5)
    assert code == 130 and printed == "\nstopped before it began\n"


def test_in_a_program_that_is_loaded_ctrl_c_is_what_it_was():
    code = (
        f"{FIRST}import os, signal\nfrom spos.core.flags import run_program\n"
        "def main(argv):\n    os.kill(os.getpid(), signal.SIGINT)\n    signal.sigtimedwait([], 5)\n"
        "sys.exit(run_program(main))"
    )
    done = run(f"import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n{code}")
    assert done.returncode == 130 and done.stderr == "\nstopped; run the same command again to go on\n"


def test_ctrl_c_that_is_ignored_stays_so():
    code = (
        f"import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n{FIRST}import os\n"
        "from spos.core.flags import run_program\n"
        "def main(argv):\n    os.kill(os.getpid(), signal.SIGINT)\n    return 7\nsys.exit(run_program(main))"
    )
    assert run(code).returncode == 7
