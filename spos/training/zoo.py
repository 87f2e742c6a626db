"""Classifiers of GluonCV's model zoo, to train with the same program or to learn from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List

from spos.core.errors import InputError, engine_reason, is_out_of_memory
from spos.engine.compat import import_gluoncv, mx
from spos.engine.parameters import load_parameters
from spos.training.flags import ZooOptions

# Modules of gluoncv.model_zoo whose networks are image classifiers; others detect, segment, track ...
CLASSIFIERS = """
    alexnet cifarresnet cifarresnext cifarwideresnet densenet dla googlenet inception mobilenet mobilenetv3 nasnet
    residual_attentionnet resnest resnet resnetv1b resnetv1b_pruned resnext senet shufflenet squeezenet vgg xception
    """
PRETRAINED_CLASSES = 1000


def model_names() -> List[str]:
    """Names of all classifiers."""
    import_gluoncv()
    from gluoncv.model_zoo.model_zoo import _models

    return sorted(name for name, make in _models.items() if make.__module__.rpartition(".")[2] in CLASSIFIERS.split())


def zoo_model(name: str, num_classes: int, options: ZooOptions = ZooOptions(), use_se: bool = False) -> Any:  # noqa: B008
    """A network by name, initialised if `options.use_pretrained`.

    Raises: InputError if the zoo has no such classifier, or not with these options, or its weights cannot be loaded.
    """
    _check_name(name)
    if options.use_pretrained and num_classes != PRETRAINED_CLASSES:
        raise InputError(
            f"--use-pretrained: GluonCV's weights have {PRETRAINED_CLASSES} classes, the data has {num_classes}"
        )
    arguments: Dict[str, Any] = {"classes": num_classes, "pretrained": options.use_pretrained}
    if options.use_gn:
        from gluoncv.nn import GroupNorm

        arguments["norm_layer"] = GroupNorm
    switches = {"last_gamma": options.last_gamma, "batch_norm": options.batch_norm, "use_se": use_se}
    arguments.update({name: True for name, is_set in switches.items() if is_set})
    from gluoncv.model_zoo import get_model

    try:
        return get_model(name, **arguments)
    except (TypeError, AttributeError) as error:
        given = [f"--{flag.replace('_', '-')}" for flag in arguments if flag not in ("classes", "pretrained")]
        given = ["--use-gn" if flag == "--norm-layer" else flag for flag in given]
        raise InputError(f"model '{name}' cannot be made with {' '.join(given) or 'these options'} ({error})") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"the pretrained weights of '{name}' cannot be loaded: {error}") from None


def _check_name(name: str) -> None:
    if name.lower() not in model_names():
        raise InputError(
            f"no model '{name}': ShuffleNas is the supernet, ShuffleNas_fixArch a subnet, and GluonCV's classifiers "
            f"are {', '.join(model_names())}"
        )


def load_teacher(
    name: str,
    params: str,
    num_classes: int,
    input_size: int,
    ctx: tuple,
    dtype: str,
    options: ZooOptions = ZooOptions(),  # noqa: B008
    use_se: bool = False,
) -> mx.gluon.HybridBlock:
    """A trained zoo network, with the parameters of a file or GluonCV's own, ready to be asked on all devices.

    Args:
        options, use_se: that it was made with.
    """
    _check_name(name)
    if not params and num_classes != PRETRAINED_CLASSES:
        raise InputError(
            f"--teacher {name}: GluonCV's weights have {PRETRAINED_CLASSES} classes, the data has {num_classes}; give "
            "--teacher-params of one that was trained on it"
        )
    net = zoo_model(name, num_classes, replace(options, use_pretrained=not params), use_se)
    if params:
        net.initialize(ctx=list(ctx))
        complete_shapes(net, input_size, ctx)
        load_parameters(params, net)
    net.collect_params().reset_ctx(list(ctx))
    net.cast(dtype)
    net.collect_params().setattr("grad_req", "null")
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def complete_shapes(net: mx.gluon.Block, input_size: int, ctx: tuple) -> None:
    """Run an initialised network once, so that every parameter has its shape.

    Raises: InputError if it does not take such images, or gives anything but one array of logits.
    """
    try:
        outputs = [net(mx.nd.zeros((1, 3, input_size, input_size), ctx=device)) for device in ctx]
        mx.nd.waitall()
    except (mx.MXNetError, ValueError) as error:  # ValueError: Gluon, where a shape cannot be inferred
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"the network does not take images of {input_size} px (--input-size): {engine_reason(error)}"
        ) from None
    if not all(isinstance(output, mx.nd.NDArray) and output.ndim == 2 for output in outputs):
        raise InputError("the network gives more than one output and cannot be trained by this program")
