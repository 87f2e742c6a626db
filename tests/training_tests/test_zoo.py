"""Networks of GluonCV's zoo: which there are, which flags they take, how they teach."""

import numpy as np
import pytest

from spos.core.errors import InputError
from spos.engine.compat import mx
from spos.engine.parameters import save_parameters
from spos.training.flags import ZooOptions
from spos.training.zoo import complete_shapes, load_teacher, model_names, zoo_model

CPU = (mx.cpu(),)


def test_the_zoo_has_classifiers_only():
    names = model_names()
    assert {"resnet18_v1", "mobilenetv3_large", "cifar_resnet20_v1", "vgg16", "shufflenet_v2"} <= set(names)
    assert not [name for name in names if any(word in name for word in ("ssd", "rcnn", "yolo", "pose", "kinetics"))]


@pytest.mark.parametrize("name, size", [("cifar_resnet20_v1", 32), ("mobilenetv2_0.25", 32)])
def test_a_classifier_of_the_zoo_has_the_classes_of_the_data(name, size):
    net = zoo_model(name, 7)
    net.initialize()
    complete_shapes(net, size, CPU)
    assert net(mx.nd.zeros((2, 3, size, size))).shape == (2, 7)
    assert all(np.prod(p.shape) > 0 for p in net.collect_params().values())


def test_flags_change_what_they_name():
    plain, zero = (zoo_model("resnet18_v2", 5, ZooOptions(last_gamma=flag)) for flag in (False, True))
    for net in (plain, zero):
        net.initialize()
        complete_shapes(net, 32, CPU)
    zeros = [
        sum(not p.data().asnumpy().any() for n, p in net.collect_params(".*gamma").items()) for net in (plain, zero)
    ]
    assert zeros[0] == 0 and zeros[1] > 0
    assert any("batchnorm" in name for name in zoo_model("vgg11", 5, ZooOptions(batch_norm=True)).collect_params())
    assert not any("batchnorm" in name for name in zoo_model("vgg11", 5).collect_params())
    grouped = zoo_model("resnet18_v1b", 5, ZooOptions(use_gn=True))
    grouped.initialize()
    complete_shapes(grouped, 32, CPU)
    names = grouped.collect_params()
    assert any("groupnorm" in name for name in names) and not any("batchnorm" in name for name in names)
    assert any("se" in name for name in zoo_model("resnext50_32x4d", 5, use_se=True).collect_params())


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("resnet99", {}, ["resnet99", "ShuffleNas", "resnet50_v1"]),
        ("ssd_512_resnet50_v1_voc", {}, ["ssd_512", "classifiers"]),
        ("alexnet", {"last_gamma": True}, ["alexnet", "--last-gamma"]),
        ("resnet18_v1", {"use_pretrained": True}, ["--use-pretrained", "1000 classes", "5"]),
    ],
)
def test_what_the_zoo_has_not_is_refused(name, options, words):
    with pytest.raises(InputError) as error:
        zoo_model(name, 5, ZooOptions(**options))
    assert all(word in str(error.value) for word in words), error.value


def test_an_image_too_small_for_the_network_is_refused():
    net = zoo_model("alexnet", 5)
    net.initialize()
    with pytest.raises(InputError, match="--input-size"):
        complete_shapes(net, 8, CPU)


@pytest.mark.parametrize("name, size", (("inceptionv3", 48), ("alexnet", 24)))
def test_images_that_are_too_small_for_a_network_are_one_line(name, size):
    """MXNet's own error, or Gluon's where a shape is inferred."""
    net = zoo_model(name, 5)
    net.initialize()
    with pytest.raises(InputError, match=f"does not take images of {size} px .--input-size.: [^\n]*$"):
        complete_shapes(net, size, CPU)


def test_a_teacher_that_does_not_fit_is_told_by_its_own_flag():
    with pytest.raises(InputError, match="^--teacher mobilenetv2_0.25: .*give --teacher-params") as error:
        load_teacher("mobilenetv2_0.25", "", 7, 32, CPU, "float32")
    assert "--use-pretrained" not in str(error.value)


def test_a_teacher_is_read_from_its_file_and_never_trained(tmp_path):
    net = zoo_model("cifar_resnet20_v1", 5)
    net.initialize()
    complete_shapes(net, 32, CPU)
    save_parameters(tmp_path / "teacher.params", net)
    teacher = load_teacher("cifar_resnet20_v1", str(tmp_path / "teacher.params"), 5, 32, CPU, "float32")
    x = mx.nd.random.normal(shape=(2, 3, 32, 32))
    assert np.allclose(teacher(x).asnumpy(), net(x).asnumpy(), atol=1e-5)
    assert all(p.grad_req == "null" for p in teacher.collect_params().values())
    with pytest.raises(InputError, match="another network"):
        load_teacher("cifar_resnet56_v1", str(tmp_path / "teacher.params"), 5, 32, CPU, "float32")
