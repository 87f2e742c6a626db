"""Exports: what their files are called. What is in them: `utils_tests/test_export_programs.py`."""

from pathlib import Path

import pytest

from spos.deploy.export import describe_files, output_name


@pytest.mark.parametrize(
    "given, dtype, expected",
    (
        ("", "float32", "runs/net"),
        ("", "int8", "runs/net-int8"),
        ("out/small", "int8", "out/small"),
        ("out/small.onnx", "float32", "out/small"),
        ("out/small-symbol.json", "float32", "out/small"),
        ("out/v1.5", "float32", "out/v1.5"),
    ),
)
def test_names_of_files(given, dtype, expected):
    assert output_name(Path("runs/net.params"), dtype, given) == Path(expected)


def test_files_are_told_with_their_size(tmp_path):
    (tmp_path / "net.onnx").write_bytes(bytes(2_340_000))
    assert describe_files([tmp_path / "net.onnx"]) == [("file", f"{tmp_path / 'net.onnx'} (2.34 MB)")]
