"""Fast paths against extracted subnets: the same statistics, logits and hits, and a supernet that stays as it is."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import OTHER_VARIANTS, SPACES, TINY, VARIANTS, all_choices, fill_parameters, in_both_ways, small_file

from oneshot_nas_network import Supernet
from spos.data.pixels import Pixels
from spos.engine.batch_norm import recalibrate_batch_norm
from spos.engine.compat import mx
from spos.execution import scored
from spos.execution.graphs import Graph
from spos.execution.scored import PathExecutor, num_scored_together, padding
from spos.native.build import SWITCH
from spos.space.architecture import Architecture
from spos.space.blocks import KINDS, BlockLayers, register_block
from spos.space.layers import Conv, SqueezeExcite
from spos.space.space_file import parse_space

CPU = [mx.cpu()]
TWO = [mx.cpu(0), mx.cpu(1)]
MEAN, STD = (120.0, 115.0, 100.0), (60.0, 61.0, 62.0)


def supernet(space, ctx=CPU):
    net = Supernet(space)
    fill_parameters(net, ctx=ctx)
    return net


def some_pixels(num_images, size, num_classes, seed=0):
    """Random images that are not all alike: each with its own brightness in every quarter."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (num_images, 3, 4, 4))
    images = np.kron(coarse, np.ones((-(-size // 4),) * 2))[:, :, :size, :size] + rng.integers(
        0, 55, (num_images, 3, size, size)
    )
    return Pixels(images.astype(np.uint8), rng.integers(0, num_classes, num_images).astype(np.float32), MEAN, STD)


def plain_logits(net, architecture, bn_images, images, batch_size):
    """By the extracted subnet."""
    subnet = net.extract(architecture)
    recalibrate_batch_norm(subnet, [batch[0] for batch in bn_images.batches(batch_size, CPU)], None)
    return np.concatenate([subnet(x).asnumpy() for batch in images.batches(batch_size, CPU) for x, _ in batch])


def fast_logits(net, architecture, bn_images, images, batch_size, ctx=CPU, dtype="float32"):
    path = PathExecutor(net, ctx, dtype).path(architecture)
    path.update_batch_norm(bn_images.batches(batch_size, ctx))
    return np.concatenate([path.logits(x).asnumpy() for batch in images.batches(batch_size, ctx) for x, _ in batch])


def assert_alike(got, wanted, tolerance=1e-5):
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


@in_both_ways("variant", VARIANTS, ("se-last-conv", "small"), slow=OTHER_VARIANTS)
def test_a_path_gives_the_logits_of_the_extracted_subnet(variant, way, rng):
    space = replace(VARIANTS[variant], num_classes=10, input_size=32, strides=(1, 1, 2, 2, 2))
    net, bn_images, images = supernet(space), some_pixels(24, 32, 10, 2), some_pixels(12, 32, 10, 3)
    for _ in range(2):
        architecture = space.sample(rng)
        wanted = plain_logits(net, architecture, bn_images, images, 16)
        got = fast_logits(net, architecture, bn_images, images, 16)
        # Random values through 60 layers: both are that far from the exact ones, on CPUs with AVX-512 1.4e-4.
        assert_alike(got, wanted, 3e-4)


@in_both_ways(
    "choice, width",
    [(choice, width) for choice in range(4) for width in (0, 3, 6, 9)],
    ((0, 0), (1, 3), (2, 6), (3, 9), (3, 0)),
)
def test_every_choice_gives_the_logits_of_the_extracted_subnet(choice, width, way):
    net, bn_images, images = supernet(TINY), some_pixels(20, 16, 5), some_pixels(9, 16, 5, 1)
    architecture = Architecture((choice,) * 4, (width,) * 4)
    wanted = plain_logits(net, architecture, bn_images, images, 8)
    assert_alike(fast_logits(net, architecture, bn_images, images, 8), wanted)


@in_both_ways("name", SPACES, ("mobilenet-se", "mixed"))
def test_every_kind_of_block_gives_the_logits_of_the_extracted_subnet(name, way, rng):
    """Inverted bottlenecks too, whose squeeze-and-excite reads the padded middle: the rest of it is 0."""
    space = SPACES[name]
    net, bn_images, images = supernet(space), some_pixels(20, 16, 5), some_pixels(9, 16, 5, 1)
    for architecture in all_choices(space, rng):
        wanted = plain_logits(net, architecture, bn_images, images, 8)
        assert_alike(fast_logits(net, architecture, bn_images, images, 8), wanted, 3e-5)


@pytest.mark.parametrize("width", range(3))
def test_squeeze_and_excite_of_a_padded_middle(width, monkeypatch):
    monkeypatch.setenv(SWITCH, "0")
    space = SPACES["mobilenet-se"]
    index = [kind.name for kind in space.blocks].index("MB4-SE")
    for i in range(5):
        padded = space.block_layers(i, index, width, padding(space, i, index, width, 16))
        assert padded.middle > space.mid_channels(i, width, index)
        assert [spec.channels for spec in padded.main if isinstance(spec, SqueezeExcite)] == [padded.middle]
    net, bn_images, images = supernet(space), some_pixels(20, 16, 5), some_pixels(9, 16, 5, 1)
    architecture = Architecture((index,) * 5, (width,) * 5)
    wanted = plain_logits(net, architecture, bn_images, images, 8)
    assert_alike(fast_logits(net, architecture, bn_images, images, 8), wanted)


def test_blocks_without_batch_norm_run_in_its_update_too(way):
    @register_block("bare")
    def bare(block):
        return BlockLayers("residual", (Conv(block.in_channels, block.out_channels, 3, bn=False, bias=True),))

    try:
        stages = [{"num_blocks": 2, "out_channels": 8, "stride": 1}, {"num_blocks": 1, "out_channels": 8, "stride": 1}]
        space = parse_space(small_file("bare", {"A": {"kind": "bare"}, "B": {"kind": "basic"}}, stages, stem=8), "bare")
        net, bn_images, images = supernet(space), some_pixels(20, 16, 5), some_pixels(9, 16, 5, 1)
        for blocks in ((0, 0, 1), (1, 0, 0), (0, 0, 0)):
            architecture = Architecture(blocks, (0,) * 3)
            wanted = plain_logits(net, architecture, bn_images, images, 8)
            assert_alike(fast_logits(net, architecture, bn_images, images, 8), wanted)
    finally:
        del KINDS["bare"]


def test_devices_share_the_work(way, rng):
    net, bn_images, images = supernet(TINY, TWO), some_pixels(24, 16, 5), some_pixels(9, 16, 5, 1)
    architecture = TINY.sample(rng)
    assert_alike(
        fast_logits(net, architecture, bn_images, images, 12, TWO),
        fast_logits(net, architecture, bn_images, images, 6, CPU),  # every device normalises by its own images
    )


def test_the_supernet_is_not_changed(way, rng):
    net = supernet(TINY)
    before = {name: p.data().asnumpy() for name, p in net._collect_params_with_prefix().items()}
    for _ in range(3):
        fast_logits(net, TINY.sample(rng), some_pixels(8, 16, 5), some_pixels(4, 16, 5), 8)
    for name, p in net._collect_params_with_prefix().items():
        np.testing.assert_array_equal(p.data().asnumpy(), before[name], err_msg=name)


def test_a_path_follows_changes_of_the_supernet(way, rng):
    """Validation during training uses one executor for all epochs."""
    net, bn_images, images = supernet(TINY), some_pixels(16, 16, 5), some_pixels(8, 16, 5, 1)
    executor, architecture = PathExecutor(net, CPU), TINY.sample(rng)
    for scale in (1.0, 0.5):
        for p in net.collect_params(".*weight").values():
            p.set_data(p.data() * scale)
        path = executor.path(architecture)
        path.update_batch_norm(bn_images.batches(8, CPU))
        got = np.concatenate([path.logits(x).asnumpy() for batch in images.batches(8, CPU) for x, _ in batch])
        assert_alike(got, plain_logits(net, architecture, bn_images, images, 8))


def counted(monkeypatch, module):
    """Every graph that a module makes from now on."""
    made = []
    monkeypatch.setattr(module, "Graph", lambda *args, **kwargs: made.append(Graph(*args, **kwargs)) or made[-1])
    return made


def kinds_of(architecture):
    """What tells a path's choice blocks apart: geometry, block choice and executed width."""
    for block, choice, width in zip(TINY.choice_blocks, architecture.block_choices, architecture.channel_choices):
        pad_to = padding(TINY, block.index, choice, width, 16)
        yield replace(block, index=0), choice, TINY.block_layers(block.index, choice, width, pad_to).middle


def test_graphs_are_made_once_for_a_kind_of_choice_block(rng, monkeypatch):
    monkeypatch.setenv(SWITCH, "0")
    executor, made = PathExecutor(supernet(TINY), CPU), counted(monkeypatch, scored)
    architectures = [TINY.sample(rng) for _ in range(30)]
    for architecture in architectures:
        executor.path(architecture)
    kinds = {key for architecture in architectures for key in kinds_of(architecture)}
    assert executor.num_parts == 2 + len(kinds)  # and stem and tail
    assert len(made) == 2 * executor.num_parts  # one for the update, one for scoring
    for architecture in architectures:
        executor.path(architecture)
    assert len(made) == 2 * executor.num_parts


@pytest.mark.parametrize("space", [*VARIANTS.values(), *SPACES.values()], ids=[*VARIANTS, *SPACES])
def test_widths_are_padded_within_the_supernet(space):
    for index, choices in enumerate(space.choices):
        for block in range(len(choices.blocks)):
            widest = space.mid_channels(index, -1, block)
            for choice in range(len(choices.channel_scales)):
                width = space.mid_channels(index, choice, block)
                padded = space.block_layers(index, block, choice, padding(space, index, block, choice, 16)).middle
                assert width <= padded <= widest
                assert padded % 16 == 0 or padded == width


def test_widest_choices_are_described_by_the_space_alone():
    """A padded branch has the shapes of a wider one; the supernet has the parameters of the widest."""
    main = TINY.block_layers(0, 0, TINY.max_channel_choice).main
    assert main[0].out_channels == TINY.mid_channels(0, TINY.max_channel_choice)


def test_no_images_for_the_update_are_an_error(way, rng):
    with pytest.raises(ValueError, match="at least one image"):
        PathExecutor(supernet(TINY), CPU).path(TINY.sample(rng)).update_batch_norm([])


def test_a_foreign_architecture_is_refused():
    with pytest.raises(ValueError, match="3 block choices"):
        PathExecutor(supernet(TINY), CPU).path(Architecture((0,) * 3, (0,) * 3))


@pytest.mark.parametrize("num_images, size, expected", ((1, 224, 1), (16, 224, 16), (17, 224, 9), (128, 224, 16)))
def test_large_batches_are_scored_in_equal_parts(num_images, size, expected):
    assert num_scored_together((num_images, 3, size, size)) == expected


def test_an_image_larger_than_a_part_is_scored_alone():
    assert num_scored_together((3, 3, 4000, 4000)) == 1


def test_small_images_are_scored_together():
    assert num_scored_together((500, 3, 32, 32)) == 500


def test_parts_of_a_batch_give_the_logits_of_the_whole(rng, monkeypatch):
    monkeypatch.setenv(SWITCH, "0")
    net, bn_images, images = supernet(TINY), some_pixels(16, 16, 5), some_pixels(11, 16, 5, 1)
    architecture = TINY.sample(rng)
    whole = fast_logits(net, architecture, bn_images, images, 16)
    monkeypatch.setattr(scored, "SCORED_TOGETHER", 4 * 16 * 16)
    assert_alike(fast_logits(net, architecture, bn_images, images, 16), whole)
