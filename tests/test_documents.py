"""Documentation that cannot rot: its commands parse, its links lead somewhere, its figures are those of the logs."""

import importlib
import json
import re
import shutil
import subprocess

import pytest
from command_stage import Stage, load_program, module_name, options_of, targets
from conftest import ROOT
from documents import FLAG, SECTION, Document, forms

from benchmarks import table

PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)
SCRIPTS = sorted(path for place in ("scripts", "benchmarks") for path in (ROOT / place).glob("*.sh"))
MODULES = [path for place in ("*.py", "utils/**/*.py", "benchmarks/*.py") for path in sorted(ROOT.glob(place))]
PROGRAMS = [path for path in MODULES if '\nif __name__ == "__main__"' in path.read_text(encoding="utf-8")]
DOCUMENTS = [Document.read(path, ROOT) for path in (*PAGES, *SCRIPTS, *PROGRAMS)]
COMMANDED = [document for document in (*DOCUMENTS, Document.read(ROOT / ".ci" / "run", ROOT)) if document.commands()]
MARKDOWN = [document for document in DOCUMENTS if document.is_page]
SOURCES = [path for place in ("spos", "tests") for path in sorted((ROOT / place).rglob("*.py"))]

# Commands that no parser can be asked about, by what they begin with.
EXCEPTIONS = {
    "python example.py": "the examples of docs/deployment.md itself, which test_deployed_example.py runs",
    "python -m benchmarks.torch_worker": "needs PyTorch in an environment of its own",
    "env/bin/python -m venv": "Python's own, in .ci/run",
    "openssl ": "makes certificates; test_tls.py makes them likewise",
}
# Programs without flags: others start them, or they only say what to run.
NO_FLAGS = ("benchmarks.torch_worker", "oneshot_nas_blocks", "oneshot_nas_network", "utils.cluster_agent")
# Flags that no program of this repository has.
FOREIGN_FLAGS = {
    "--nthreads": "of Dask's worker",
    "--protocol": "of Dask's scheduler",
    "--dashboard-address": "of both",
}
# A program that the reader shall fill in.
ANY_PROGRAM = re.compile(r"(?:env/bin/)?python -m \w+\.[A-Z]+\b")


def is_excepted(command):
    return command.startswith(tuple(EXCEPTIONS)) or bool(ANY_PROGRAM.match(command))


@pytest.fixture(scope="module")
def stage(tmp_path_factory, pytestconfig):
    return Stage(tmp_path_factory.mktemp("stage") / "check out", pytestconfig._parser)


@pytest.fixture(scope="module")
def flags():
    """What every flag of a program or a script accepts: some words, or (None) anything that its type does."""
    accepted = {}
    commands = [command for document in DOCUMENTS for command in document.commands()]
    figures = {command.split()[3] for command in commands if command.startswith("python -m utils.plot ")}
    modules = {module_name(path) for path in PROGRAMS} - set(NO_FLAGS) - {"utils.plot"}
    parsers = [options_of(module) for module in modules] + [options_of("utils.plot", figure) for figure in figures]
    for name, action in (item for parser in parsers for item in parser._option_string_actions.items()):
        words = set(action.choices) if action.choices else None
        before = accepted.get(name, set())
        accepted[name] = before | words if words is not None and before is not None else None
    of_scripts = [flag for path in SCRIPTS for flag in FLAG.findall(path.read_text(encoding="utf-8"))]
    return {**dict.fromkeys((*FOREIGN_FLAGS, *of_scripts)), **accepted}


def names(documents):
    return {"argvalues": documents, "ids": [document.name for document in documents]}


@pytest.mark.parametrize("document", **names(COMMANDED))
def test_the_commands_of_a_document_would_run(document, stage):
    commands = [command for command in document.commands() if not is_excepted(command)]
    assert not [fault for command in commands for fault in stage.faults(command)]


@pytest.mark.skipif(not shutil.which("make"), reason="make is not here")
@pytest.mark.parametrize("target", targets())
def test_the_commands_of_a_target_would_run(target, stage):
    """What make would run; `help` shows the Makefile itself."""
    shown = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert target == "help" or not stage.faults(shown.stdout)


@pytest.mark.skipif(not shutil.which("make"), reason="make is not here")
def test_make_lists_its_targets():
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    assert [line.split()[0] for line in shown.splitlines()] == targets()


@pytest.mark.parametrize("document", **names(DOCUMENTS))
def test_a_command_stands_where_it_can_be_seen(document):
    assert not document.hidden_commands()


def test_every_exception_is_needed():
    commands = [command for document in COMMANDED for command in document.commands()]
    for beginning in EXCEPTIONS:
        assert any(command.startswith(beginning) for command in commands), beginning
    used = {flag for document in DOCUMENTS for flag in document.flags()}
    assert set(FOREIGN_FLAGS) <= used


@pytest.mark.parametrize("document", **names([document for document in DOCUMENTS if document.flags()]))
def test_every_flag_belongs_to_a_program(document, flags):
    assert not unknown_flags(document, flags)


def unknown_flags(document, flags):
    """Flags that nothing has, and words that none of the programs with a flag accepts."""
    wrong = [f"{name} {word}" for name, word in document.flags_with_values() if word not in (flags.get(name) or {word})]
    return sorted(set(document.flags()) - set(flags)) + wrong


@pytest.mark.parametrize("document", **names(MARKDOWN))
def test_every_link_leads_somewhere(document):
    assert not dead_links(document)


def dead_links(document):
    """Links to files and images that are not there, and to sections that a page does not have."""
    dead = []
    for target in document.links():
        file, _, anchor = target.partition("#")
        path = (ROOT / document.name).parent / file if file else None
        if path and not path.exists():
            dead.append(f"{target}: no such file")
        elif anchor and anchor not in (Document.read(path, ROOT) if path else document).anchors():
            dead.append(f"{target}: no such section")
    return dead


@pytest.mark.parametrize("document", **names([document for document in DOCUMENTS if document.name != "CHANGELOG.md"]))
def test_every_file_that_is_named_is_there(document):
    assert not missing_files(document)


def missing_files(document):
    return [place for place in document.places() if not (ROOT / place).exists()]


@pytest.mark.parametrize("document", **names([document for document in MARKDOWN if document.blocks("python")]))
def test_what_examples_import_is_there(document):
    assert not missing_imports(document)


def missing_imports(document):
    """What Python examples import of this repository, and cannot."""
    missing = []
    for module, name in document.imports():
        if (ROOT / module.split(".")[0]).exists() or (ROOT / f"{module}.py").exists():
            try:
                found = hasattr(importlib.import_module(module), name or "__name__")
            except ImportError:
                found = False
            missing += [] if found else [f"{module} {name}".strip()]
    return missing


def test_sections_that_are_named_are_there():
    """README.md, 'Your own images': messages, comments and docstrings name pages and their sections."""
    named = [
        (path, match[1], " ".join(match[3].split()))
        for path in (*SOURCES, *MODULES, *SCRIPTS, *PAGES)
        if path.name != "test_documents.py"
        for match in SECTION.finditer(path.read_text(encoding="utf-8"))
    ]
    assert [page for path, page, _ in named if path.name == "datasets.py" or path.parent.name == "data"]
    for path, page, section in named:
        assert section in Document.read(ROOT / page, ROOT).headings(), (path, page, section)


def test_pages_that_sources_name_are_there():
    for path in (*SOURCES, *MODULES, *SCRIPTS):
        for page in re.findall(r"\bdocs/\w+\.md", path.read_text(encoding="utf-8")):
            assert (ROOT / page).is_file() or path.name == "test_documents.py", (path, page)


def test_the_index_has_every_page_and_every_page_names_the_next():
    index = Document.read(ROOT / "docs" / "README.md", ROOT)
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= set(index.links())
    for name in pages:
        top = "\n".join((ROOT / "docs" / name).read_text(encoding="utf-8").split("\n")[:5])
        assert re.search(r"Next: \[", top), name


def test_the_index_has_every_tool():
    tools = {module_name(path) for path in PROGRAMS if ROOT / "utils" in path.parents}
    page = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(utils\.\w+)` \|", page, re.MULTILINE)) == tools


def test_the_readme_is_short():
    assert (ROOT / "README.md").stat().st_size <= 10_000
    first_screen = (ROOT / "README.md").read_text(encoding="utf-8").split("\n")[:45]
    for word in ("MXNet 1.9.1", "No GPU has run this code", "H100", "quickstart.sh", "train_supernet.sh"):
        assert any(word in line for line in first_screen), word


# Pages that quote what programs print, and from how many calls.
QUOTING = {"docs/counting.md": 3, "docs/searching.md": 1, "docs/space.md": 1}
COSTS = ("FLOPs", "params")  # as calculate_flops.py prints them
KINDS = ("SNB-3", "SNB-5", "SNB-7", "SXB-3")  # block choices 0 to 3
# Programs that print the same on every machine, in seconds.
EXACT = ("calculate_flops", "utils.compare_search", "utils.plot")


@pytest.mark.parametrize("page", QUOTING)
def test_a_page_quotes_what_a_program_prints(page, stage, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()  # figures that are drawn on the way
    exact = 0
    for command, quoted in Document.read(ROOT / page, ROOT).outputs():
        ((module, *argv),) = stage.calls(command)
        if module in EXACT:
            capsys.readouterr()
            assert load_program(module).main(argv) == 0
            assert quotes(quoted, capsys.readouterr().out), command
            exact += 1
    assert exact == QUOTING[page]


def quotes(quoted, printed):
    """Whether a text is what was printed, where a line of three dots stands for any number of lines."""
    parts = re.split(r"^\.\.\.\n", quoted, flags=re.MULTILINE)
    return bool(re.fullmatch("(?:.*\n)*".join(map(re.escape, parts)), printed))


@pytest.mark.parametrize(
    "quoted, expected",
    (("a\nb\nc\n", True), ("a\n...\nc\n", True), ("a\n...\n", True), ("a\nc\n", False), ("a\n", False)),
)
def test_three_dots_stand_for_lines(quoted, expected):
    assert quotes(quoted, "a\nb\nc\n") is expected


def test_the_readme_quotes_the_log_of_the_quickstart():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (quoted,) = re.findall(r"^```\n(supernet top-1.*?)^```$", text, re.DOTALL | re.MULTILINE)
    log = (ROOT / "logs" / "quickstart-digits.log").read_text(encoding="utf-8")
    assert f"== summary\n{quoted}" in log
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    assert f"the quickstart's network has {percents(log)[-1]} after 8 epochs" in page


def test_the_page_about_spaces_quotes_its_log():
    page = (ROOT / "docs" / "spaces.md").read_text(encoding="utf-8")
    log = (ROOT / "logs" / "tiny-digits.log").read_text(encoding="utf-8")
    (quoted,) = re.findall(r"^```\n(== 1/4 supernet.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert quotes(quoted, log)
    flops, params = (int(re.search(rf"^{name} .*\(([\d,]+)\)$", log, re.M)[1].replace(",", "")) for name in COSTS)
    assert flops < 5e6 and params < 1e5


def percents(log):
    """Top-1 of the images that were not trained on, or of the test images, in the order of a log."""
    return re.findall(r"(?:val top-1 |test top-1 +)([\d.]+%)", log)


def test_the_page_about_training_quotes_its_logs():
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    rows = re.findall(r"^(\| `(logs/.*?\.log)` .*)$", page, re.MULTILINE)
    assert len(rows) == 2
    for row, name in rows:
        logged, quoted = percents((ROOT / name).read_text(encoding="utf-8")), re.findall(r"[\d.]+%", row)
        assert len(quoted) >= 2 and [value for value in logged if value in quoted] == quoted
        assert (quoted[0], quoted[-1]) == (logged[0], logged[-1])


def test_the_page_about_training_quotes_the_coverage(tmp_path, capsys):
    flags = "--use-se --last-conv-after-pooling --output"
    assert load_program("utils.plot").main(["coverage", *flags.split(), str(tmp_path / "coverage.png")]) == 0
    printed = dict(re.findall(r"^(uniform|constrained, \w+) +(.*)$", capsys.readouterr().out, re.MULTILINE))
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    quoted = dict(re.findall(r"^\| (uniform|constrained, \w+) \| (.*)$", page, re.MULTILINE))
    assert set(printed) == set(quoted) == {"uniform", "constrained, random", "constrained, evolution"}
    for name, row in quoted.items():
        assert numbers(row) == pytest.approx(numbers(printed[name]), abs=0.051), name  # two digits become one


def numbers(text):
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]


def test_the_page_about_latency_quotes_its_logs(tmp_path, capsys):
    page = (ROOT / "docs" / "latency.md").read_text(encoding="utf-8")
    argv = ["latency", str(ROOT / "logs" / "latency-float32"), "--output", str(tmp_path / "latency.png")]
    assert load_program("utils.plot").main([*argv, "--networks", "markdown"]) == 0
    rows = [line for line in capsys.readouterr().out.split("\n") if line.startswith("|")]
    assert len(rows) == 42 and "\n".join(rows[:2]) in page
    networks = re.findall(r"^\| \d+\.\d{3} \|.*\|$", page, re.MULTILINE)
    assert len(networks) == 5 and set(networks) <= set(rows)
    quoted = re.findall(r"^\| (S[NX]B-\d), (\w+) \| (.*) \|$", page, re.MULTILINE)
    assert len(quoted) == 6
    for name, kind, times in quoted:
        measured = json.loads((ROOT / "logs" / f"latency-{kind}" / "latency.json").read_text())
        logged = measured["blocks_ms"][1][KINDS.index(name)][
            2:
        ]  # the second choice block, without the two narrowest widths
        assert times == " | ".join(f"{ms:.2f}" for ms in logged), (name, kind)


def test_the_page_of_benchmarks_quotes_its_results(capsys):
    assert table.main([str(ROOT / "logs" / "benchmarks" / "results.jsonl")]) == 0
    page = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert f"{table.BEGIN}\n{capsys.readouterr().out}{table.END}" in page


MADE_UP = (
    ("`sh scripts/train_supernet.sh --no-such-flag`", "unrecognized arguments: --no-such-flag"),
    ("```sh\nsh scripts/search_supernet.sh \\\n    --search-mode greedy\n```", "invalid choice: 'greedy'"),
    ("```sh\nflags='--dtype int9'\nOMP_NUM_THREADS=1 env/bin/python -m utils.export_model $flags\n```", "int9"),
    ("`sh scripts/no_such_script.sh`", "no_such_script.sh"),
    ("`sh scripts/run.sh no_such_program.py --json`", "no program no_such_program"),
    ("`python -m utils.no_such_tool --help`", "no program utils.no_such_tool"),
    ("python train_imagenet.py --num-epochs none", "invalid positive value: 'none'"),
    ("`sh scripts/setup.sh cu999`", "unknown argument 'cu999'"),
    ("`sh scripts/setup.sh [cpu|cu999]`", "unknown argument 'cu999'"),
    ("`python -m utils.plot nothing --output x.png`", "say what to plot"),
    ("`python -m utils.report --output x.html`", "required: RUN"),
    ("`sh scripts/train_cluster.sh --workers 2 -- scripts/train_supernet.sh --no-such-flag`", "--no-such-flag"),
    ("`sh scripts/search_cluster.sh --workers 2 -- --search-mode greedy`", "invalid choice: 'greedy'"),
    ("`sh scripts/study_cifar10.sh IMAGES no_such_part`", "no_such_part"),
    ("`sh scripts/test.sh --ignore=tests/nothing`", "tests/nothing does not exist"),
    ("`sh scripts/test.sh tests/test_nothing.py`", "tests/test_nothing.py does not exist"),
    ("`sh scripts/test.sh --no-such-flag`", "pytest has no --no-such-flag"),
    ("`sh scripts/test.sh -m quick`", "no marker 'quick'"),
    ("`make coffee`", "no target 'coffee'"),
    ("```sh\npip install mxnet-of-others\n```", "pip: nothing of this repository is 'mxnet-of-others'"),
    ("```sh\nspos-fly --to moon\n```", "spos-fly"),
)


@pytest.mark.parametrize("text, fault", MADE_UP, ids=[text for text, _ in MADE_UP])
def test_a_command_that_would_fail_is_found(text, fault, stage):
    found = [fault for command in Document("made-up.md", text).commands() for fault in stage.faults(command)]
    assert len(found) >= 1 and fault in " ".join(found), found


def test_what_stands_in_the_head_of_a_script_or_a_docstring_is_found(stage):
    text = "What it does.\n\n  python -m utils.report run --titel x    with another title\n"
    (command,) = Document("made_up.py", text).commands()
    assert command == "python -m utils.report run --titel x" and "--titel" in stage.faults(command)[0]


def test_a_command_inside_a_sentence_is_found():
    assert Document("made-up.md", "To begin: sh scripts/quickstart.sh. That is all.").hidden_commands()
    assert not Document("made-up.md", "To begin: `sh scripts/quickstart.sh`. That is all.").hidden_commands()


@pytest.mark.parametrize(
    "text, dead",
    (
        ("[x](docs/nothing.md)", "docs/nothing.md: no such file"),
        ("![x](images/nothing.png)", "images/nothing.png: no such file"),
        ("[![x](images/nothing.png)](README.md)", "images/nothing.png: no such file"),
        ("[x](docs/latency.md#nothing)", "docs/latency.md#nothing: no such section"),
        ("# One\n\n[x](#two)", "#two: no such section"),
        ("# One\n\n```\n# two\n```\n[x](#two)", "#two: no such section"),
    ),
)
def test_a_dead_link_is_found(text, dead):
    assert dead_links(Document("made-up.md", text)) == [dead]


def test_links_that_lead_somewhere_are_no_faults():
    text = "# A `b` (c), d\n# A `b` (c), d\n[x](#a-b-c-d-1) [y](docs/latency.md#measured) [z](https://example.org/#q)"
    assert not dead_links(Document("made-up.md", text))


def test_other_faults_are_found(flags):
    text = "Give `--racing`, --no-such-flag, `--search-mode greedy` and `--search-mode genetic`."
    assert unknown_flags(Document("made-up.md", text), flags) == ["--no-such-flag", "--search-mode greedy"]
    assert missing_files(Document("made-up.md", "`spos/nothing.py`, `logs/study-cifar10`")) == ["spos/nothing.py"]
    example = "```python\nimport numpy\nfrom spos import nothing\nfrom spos.nothing import one\n```"
    assert missing_imports(Document("made-up.md", example)) == ["spos nothing", "spos.nothing one"]


@pytest.mark.parametrize(
    "synopsis, expected",
    (
        ("sh x.sh [a|b|c] [--dev]", ["sh x.sh a --dev", "sh x.sh b --dev", "sh x.sh c --dev"]),
        ("sh x.sh --hosts FILE [--servers N] -- ARGUMENTS OF y.py", ["sh x.sh --hosts FILE --servers 2 --"]),
        ("python -m x [--quick] [FILE] ...", ["python -m x --quick "]),
        ("python -m x --part a|b --top-N", ["python -m x --part a --top-N", "python -m x --part b --top-N"]),
    ),
)
def test_a_synopsis_stands_for_commands(synopsis, expected):
    assert forms(synopsis) == expected
