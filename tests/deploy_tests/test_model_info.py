"""Metadata of exported files: the round trip, and what is not ours."""

import pytest
from exported_files import INFO, NAMES

from spos.core.errors import InputError
from spos.deploy.model_info import METADATA, ModelInfo


def test_metadata_come_back_from_strings():
    strings = INFO.to_strings()
    assert set(strings) == set(METADATA) and all(isinstance(text, str) for text in strings.values())
    assert ModelInfo.from_strings(strings, "net.onnx") == INFO


@pytest.mark.parametrize("name", ("architecture", "class_names", "pad_to"))
@pytest.mark.parametrize("damage", (lambda strings, name: strings.pop(name), lambda s, name: s.update({name: "{"})))
def test_what_is_missing_or_damaged_is_refused(name, damage):
    strings = INFO.to_strings()
    damage(strings, name)
    with pytest.raises(InputError, match="net.onnx has no metadata of this project .*: export it anew"):
        ModelInfo.from_strings(strings, "net.onnx")


def test_a_class_without_a_name_is_its_number():
    nameless = ModelInfo(INFO.preprocessing.__class__(16, 1.0, (0.0,) * 3, (1.0,) * 3, ()), {})
    assert (INFO.name_of(3), nameless.name_of(3)) == (NAMES[3], "3")
