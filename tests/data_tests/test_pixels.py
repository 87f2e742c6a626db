"""Decoded images that are kept: what the loader gives, in memory and in files."""

import errno
import fcntl
import os
import resource

import numpy as np
import pytest
from image_files import loader, pack, png, random_images

from spos.core.errors import InputError
from spos.data import pixels
from spos.data.dataset import IMAGENET_MEAN, IMAGENET_STD, make_dataset
from spos.data.flags import DataOptions
from spos.data.loader import ImageLoader
from spos.data.pixels import load_first_images, load_images, load_pixels, remove_images
from spos.engine.compat import mx
from spos.runs.run import PIXELS_FOLDER

TWO = [mx.cpu(0), mx.cpu(1)]


def make(file, folder, shared=False, as_pixels=True, **kwargs):
    images = loader(file, mean=IMAGENET_MEAN, std=IMAGENET_STD, seed=1, as_pixels=as_pixels, **kwargs)
    return load_pixels(images, folder, "some", shared) if as_pixels else images


def flat(batches):
    """All images and labels of device batches."""
    shares = [share for batch in batches for share in batch]
    return tuple(np.concatenate([share[i].asnumpy() for share in shares]) for i in (0, 1))


@pytest.mark.parametrize("shared", (False, True))
@pytest.mark.parametrize("batch_size, ctx", ((7, TWO[:1]), (8, TWO), (64, TWO), (1, TWO)))
def test_images_are_those_of_the_normalising_loader_bit_by_bit(noise_file, tmp_path, shared, batch_size, ctx):
    images, labels = flat(make(noise_file, tmp_path, shared).batches(batch_size, ctx))
    batches = list(make(noise_file, tmp_path, as_pixels=False).epoch(0))
    np.testing.assert_array_equal(images, np.concatenate([batch.images.asnumpy() for batch in batches]))
    np.testing.assert_array_equal(labels, np.concatenate([batch.labels.asnumpy() for batch in batches]))


def test_a_batch_is_shared_among_the_devices(noise_file, tmp_path):
    kept = make(noise_file, tmp_path)
    batches = list(kept.batches(16, TWO))
    assert [[x.shape[0] for x, _ in batch] for batch in batches] == [[8, 8]] * 3 + [[1, 1]]
    assert [x.context for x, _ in batches[0]] == TWO
    assert [len(batch) for batch in kept.batches(49, TWO)] == [2, 1]


def test_a_part_of_the_images(noise_file, tmp_path):
    kept = make(noise_file, tmp_path)
    whole, part = flat(kept.batches(50, TWO[:1])), flat(kept.batches(4, TWO[:1], 13, 31))
    for a, b in zip(whole, part):
        np.testing.assert_array_equal(a[13:31], b)


def test_images_go_to_a_file_when_memory_is_short(noise_file, tmp_path, monkeypatch):
    small = flat(make(noise_file, tmp_path).batches(8, TWO[:1]))
    assert not list(tmp_path.glob("some*"))
    monkeypatch.setattr(pixels, "available_memory", lambda: 50 * 3 * 32 * 32 * 2 - 2)
    mapped = make(noise_file, tmp_path)
    assert isinstance(mapped._images, np.memmap)
    for a, b in zip(small, flat(mapped.batches(8, TWO[:1]))):
        np.testing.assert_array_equal(a, b)


def test_a_complete_file_is_not_decoded_again(noise_file, tmp_path, monkeypatch):
    first = flat(make(noise_file, tmp_path, shared=True).batches(8, TWO[:1]))
    monkeypatch.setattr(ImageLoader, "epoch", None)
    for a, b in zip(first, flat(make(noise_file, tmp_path, shared=True).batches(8, TWO[:1]))):
        np.testing.assert_array_equal(a, b)


def test_a_kill_while_decoding_leaves_nothing_that_counts(noise_file, tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pixels, "_decode", fail)
    with pytest.raises(KeyboardInterrupt):
        make(noise_file, tmp_path, shared=True)
    assert not list(tmp_path.glob("*some*"))
    monkeypatch.undo()
    assert make(noise_file, tmp_path, shared=True).num_images == 50


@pytest.mark.parametrize("shared", (False, True))
def test_undecodable_images_are_left_out(tmp_path, shared, capfd):
    content = [png(image) for image in random_images(5)]
    content[2] = b"no picture"
    kept = make(pack(tmp_path, content), tmp_path / "kept", shared)
    assert kept.num_images == 4
    assert sorted(flat(kept.batches(3, TWO))[1]) == [0, 1, 3, 4]
    assert "cannot be decoded" in capfd.readouterr().err


def test_no_image_at_all_is_an_error(tmp_path):
    with pytest.raises(InputError, match="none of the 2 images of the list 'some' can be decoded"):
        make(pack(tmp_path, [b"no picture"] * 2), tmp_path)


def test_the_first_images_are_those_of_all(noise_file, tmp_path):
    options = DataOptions(batch_size=8, num_workers=1)
    data = make_dataset("noise", noise_file, noise_file, 50, 32, 1.0)
    images, labels = flat(load_images(data, "test", options, tmp_path).batches(8, TWO[:1]))
    for count in (1, 8, 13, 50, 99):
        first = load_first_images(data, "test", options, count)
        assert first.num_images == min(count, 50)
        some, own = flat(first.batches(8, TWO[:1]))
        np.testing.assert_array_equal(some, images[:count])
        np.testing.assert_array_equal(own, labels[:count])


@pytest.mark.parametrize("part", ("some.npy", "some.labels.npy"))
@pytest.mark.parametrize("change", ("header", "cut", "longer", "empty"))
def test_what_is_no_such_array_is_decoded_again_whatever_its_checksum(noise_file, tmp_path, capfd, part, change):
    first = flat(make(noise_file, tmp_path, shared=True).batches(8, TWO[:1]))
    sound = (tmp_path / part).read_bytes()
    changed = {"header": b"[" + sound[1:], "cut": sound[:200], "longer": sound + b"1234" * 60, "empty": b""}
    (tmp_path / part).write_bytes(changed[change])
    pixels.write_sums(tmp_path / "some.npy", tmp_path / "some.labels.npy")
    for a, b in zip(first, flat(make(noise_file, tmp_path, shared=True).batches(8, TWO[:1]))):
        np.testing.assert_array_equal(a, b)
    assert "some.npy is damaged; its images are decoded again" in capfd.readouterr().err


def test_kept_files_are_those_of_numpy(noise_file, tmp_path):
    kept = make(noise_file, tmp_path, shared=True)
    images, labels = (np.load(tmp_path / f"some{end}.npy", allow_pickle=False) for end in ("", ".labels"))
    assert images.dtype == np.uint8 and images.shape[:2] == (50, 3)
    np.testing.assert_array_equal(labels, flat(kept.batches(8, TWO[:1]))[1])


@pytest.mark.parametrize("part", ("some.npy", "some.labels.npy", "some.json"))
@pytest.mark.parametrize("change", ("byte", "cut", "nonsense"))
def test_what_was_damaged_is_decoded_again(noise_file, tmp_path, capfd, part, change):
    first = flat(make(noise_file, tmp_path, shared=True).batches(8, TWO[:1]))
    content = bytearray((tmp_path / part).read_bytes())
    content[len(content) // 2] ^= 1
    changed = {"byte": content, "cut": content[: len(content) // 2], "nonsense": b"[" * 3000}[change]
    (tmp_path / part).write_bytes(changed)
    for a, b in zip(first, flat(make(noise_file, tmp_path, shared=True).batches(8, TWO[:1]))):
        np.testing.assert_array_equal(a, b)
    assert "some.npy is damaged; its images are decoded again" in capfd.readouterr().err


def test_space_is_taken_before_anything_is_decoded(noise_file, tmp_path, monkeypatch):
    """A limit on the size of files is met where a full disk would be; without it a write to a page ends the process."""

    def never(*_):
        raise AssertionError

    monkeypatch.setattr(pixels, "_decode", never)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(InputError, match="of the list 'some' need 0 MB, which cannot be written .File too large"):
            make(noise_file, tmp_path, shared=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.glob("*some*")) == []


def test_space_is_taken_also_where_the_file_system_cannot_reserve_it(noise_file, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    make(noise_file, tmp_path, shared=True)
    assert (tmp_path / "some.npy").stat().st_blocks * 512 >= 50 * 3 * 32 * 32


def test_leftovers_of_a_kill_are_removed_but_not_what_is_being_written(noise_file, tmp_path):
    (tmp_path / ".some.npy.dead").write_bytes(b"x" * 1000)
    (tmp_path / ".some.npy.alive").write_bytes(b"x" * 1000)
    with open(tmp_path / ".some.npy.alive", "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        make(noise_file, tmp_path, shared=True)
        assert sorted(path.name for path in tmp_path.glob(".some*")) == [".some.npy.alive"]


@pytest.mark.parametrize("linked", (False, True))
def test_kept_images_are_removed_also_behind_a_link(noise_file, tmp_path, linked):
    folder, elsewhere = tmp_path / "run", tmp_path / "disk"
    folder.mkdir()
    elsewhere.mkdir()
    others = ["my-embeddings.npy", "notes-2024.json", "notes.txt", "run-3.npy"]
    for name in others:
        (elsewhere / name).write_text("not ours")
    if linked:
        (folder / PIXELS_FOLDER).symlink_to(elsewhere)
    options = DataOptions(batch_size=8, num_workers=1)
    load_images(make_dataset("noise", noise_file, noise_file, 50, 32, 1.0), "test", options, folder, shared=True)
    kept = list((folder / PIXELS_FOLDER).glob("test-*"))
    assert len(kept) == 3
    (kept[0].parent / f".{kept[0].name}.dead").write_bytes(b"x")
    remove_images(folder)
    assert sorted(os.listdir(elsewhere)) == others and (folder / PIXELS_FOLDER).is_symlink() == linked
    assert linked or not (folder / PIXELS_FOLDER).exists()
    remove_images(folder)
