"""What programs do before they load anything: streams, warnings, the backend of figures, and Ctrl-C meanwhile."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

LATER = ("spos", "oneshot_nas", "benchmarks", "utils", "numpy", "cv2", "matplotlib", "plotly", "mxnet")
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
    """Before any import but those of Python itself."""
    lines = (ROOT / program).read_text("utf-8").splitlines()
    imports = [line.strip() for line in lines if line.strip().startswith(("import ", "from "))]
    own = [line for line in imports if line.split()[1].startswith(LATER)]
    assert own[0].startswith("import spos.core.startup")
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
    own = {name: value for name, value in os.environ.items() if not name.startswith("COV_CORE")}  # it opens files
    done = subprocess.run([*words, "-c", code], cwd=ROOT, env=own, capture_output=True, timeout=60)
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


def test_run_sh_without_a_program_is_one_line():
    environ = {**os.environ, "SPOS_PYTHON": sys.executable}
    done = subprocess.run(["sh", str(ROOT / "scripts" / "run.sh")], env=environ, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: nothing to run") and done.stderr.count("\n") == 1


def test_the_study_takes_a_path_with_blanks(tmp_path):
    """A stand-in for Python tells what it is given."""
    images = tmp_path / "my pictures" / "cifar 10"
    images.mkdir(parents=True)
    for name in ("train.rec", "val.rec"):
        (images / name).write_text("")
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    python.chmod(0o755)
    command = ["sh", str(ROOT / "scripts" / "study_cifar10.sh"), str(images), "search", "0"]
    done = subprocess.run(
        command, env={**os.environ, "SPOS_PYTHON": str(python)}, cwd=tmp_path, capture_output=True, text=True
    )
    words = done.stdout.splitlines()
    assert words[words.index("--rec-train") + 1] == str(images / "train.rec"), done.stderr
    assert words[words.index("--dataset") + 1] == "cifar10" and words[words.index("--strides") + 1] == "2,1,2,2,2"
