"""Subnets for the tests of deployment."""

from dataclasses import replace

import numpy as np
from conftest import SPACES, VARIANTS, all_choices, reference_value

from spos.data.preprocessing import Preprocessing
from spos.deploy.model_info import ModelInfo
from spos.deploy.subnet import DeployedSubnet
from spos.space.architecture_file import ArchitectureRecord, load_architecture

NAMES = tuple(f"class {i}" for i in range(10))


def drawn_subnet(space, architecture, rng):
    """With weights that keep signals at their size, so that logits tell the whole network, and any BatchNorm.

    With those that training begins with, logits hardly depend on the image: a wrong shuffle changed them by 2e-6.
    """

    def value(name, shape):
        if name.endswith(("gamma", "running_var")):
            return rng.uniform(0.5, 1.5, shape)
        return rng.normal(0, np.prod(shape[1:]) ** -0.5 if name.endswith("weight") else 0.1, shape)

    shapes = DeployedSubnet(space, architecture, {}).shapes()
    return DeployedSubnet(space, architecture, {n: value(n, shape).astype(np.float32) for n, shape in shapes.items()})


def random_subnet(variant, rng, num_classes=10):
    space = replace(VARIANTS[variant], num_classes=num_classes)
    return drawn_subnet(space, space.sample(rng), rng)


def every_subnet(name, rng):
    """Of a small space: together they have all of its choices."""
    for architecture in all_choices(SPACES[name], rng):
        yield drawn_subnet(SPACES[name], architecture, rng)


def published_subnet(name):
    """With the weights of the reference cases, which multiply rounding."""
    record = load_architecture(name)
    shapes = DeployedSubnet(record.space, record.architecture, {}).shapes()
    arrays = {name: reference_value(name, shape) for name, shape in shapes.items()}
    return DeployedSubnet(record.space, record.architecture, arrays)


def info_of(subnet, input_size=32, pad_to=1):
    """What its exported files say."""
    preprocessing = Preprocessing(input_size, 0.875, (123.0, 117.0, 104.0), (58.0, 57.0, 57.5), NAMES)
    return ModelInfo(preprocessing, ArchitectureRecord(subnet.space, subnet.architecture, {}).to_json(), pad_to=pad_to)
