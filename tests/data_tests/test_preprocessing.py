"""What inference has to know of images, through JSON and back, and what a loader makes of it."""

import json

import pytest

from spos.core.errors import InputError
from spos.data.preprocessing import Preparation, Preprocessing

IMAGES = Preprocessing(32, 0.875, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), ("ant", "bee"))


def test_it_survives_json():
    assert Preprocessing.from_json(json.loads(json.dumps(IMAGES.to_json())), "model.json") == IMAGES


@pytest.mark.parametrize(
    "change",
    ({"mean": [1, 2]}, {"std": None}, {"input_size": "large"}, {"crop_ratio": []}, {"class_names": 3}),
    ids=str,
)
def test_what_is_of_another_kind_is_refused_with_its_source(change):
    with pytest.raises(InputError, match="model.json does not say how images are prepared"):
        Preprocessing.from_json({**IMAGES.to_json(), **change}, "model.json")


@pytest.mark.parametrize("missing", IMAGES.to_json())
def test_what_is_missing_is_refused(missing):
    record = IMAGES.to_json()
    del record[missing]
    with pytest.raises(InputError, match=missing):
        Preprocessing.from_json(record, "model.json")


def test_images_to_be_classified_show_their_centre():
    assert IMAGES.preparation == Preparation(32, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), 0.875)
    assert IMAGES.preparation.augmentation is None


@pytest.mark.parametrize("size, crop_ratio", ((0, 1.0), (32, 0.0), (32, 1.1)))
def test_preparations_that_make_no_sense_are_refused(size, crop_ratio):
    with pytest.raises(ValueError, match="expected size >= 1 and 0 < crop_ratio <= 1"):
        Preparation(size, (0.0,) * 3, (1.0,) * 3, crop_ratio)
