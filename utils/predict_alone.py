"""Labels of pictures by an exported network, with ONNX Runtime, NumPy and Pillow alone (`scripts/predict.sh`).

python utils/predict_alone.py --model model.onnx picture.png folder/of/pictures

What has to be known of the images stands in the file (docs/deployment.md). Pictures are turned as their EXIF
orientation says, the square in the centre is cut out and resized. An unreadable picture is named on standard error and
left out; the exit code is 2 then.
"""

import argparse
import json
import math
import os
import sys

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
BATCH_SIZE = 32


class Network:
    """An exported network, and what it says of its images."""

    def __init__(self, path):
        import onnxruntime  # here, so that --help does not need it

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; they are told below
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        metadata = self._session.get_modelmeta().custom_metadata_map
        self._size, self._crop_ratio = json.loads(metadata["input_size"]), json.loads(metadata["crop_ratio"])
        self._mean, self._std = (np.array(json.loads(metadata[key]), np.float32) for key in ("mean", "std"))
        self._names = json.loads(metadata["class_names"])

    def prepared(self, path):
        """The input (3, S, S) of a picture. Raises whatever the decoder does if it cannot be read."""
        opened = Image.open(path)
        image = in_colour(ImageOps.exif_transpose(opened) or opened)
        side = max(1, round(min(image.size) * self._size / math.ceil(round(self._size / self._crop_ratio, 6))))
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side))
        image = square.resize((self._size, self._size), Image.Resampling.BILINEAR)
        return ((np.asarray(image, np.float32) - self._mean) / self._std).transpose(2, 0, 1)

    def probabilities(self, images):
        """(N, classes) of inputs (N, 3, S, S)."""
        (logits,) = self._session.run(["logits"], {"data": images})
        shares = np.exp(logits - logits.max(1, keepdims=True))
        return shares / shares.sum(1, keepdims=True)

    def name(self, label):
        return self._names[label] if self._names else str(label)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="NAME.onnx, NAME, or a folder with model.onnx")
    parser.add_argument("--top", type=int, default=3, help="classes of each picture [%(default)s]")
    parser.add_argument("pictures", nargs="+", metavar="PICTURE_OR_FOLDER")
    args = parser.parse_args(argv)
    if args.top < 1:
        return fail(f"--top {args.top} shows nothing; give 1 or more")
    for stream in (sys.stdout, sys.stderr):  # names of files need not be text
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # neither is replaced here
    named = os.path.join(args.model, "model") if os.path.isdir(args.model) else args.model
    model = named if os.path.isfile(named) else named + ".onnx"
    if not os.path.isfile(model):
        return fail(f"--model {args.model} does not exist")
    try:
        network = Network(model)
    except Exception as error:  # those of ONNX Runtime have no class in common
        return fail(f"{model} is no network that was exported by this project: {error}")
    paths = [path for given in args.pictures for path in find(given)]
    if not paths:
        return fail(f"no picture in {', '.join(args.pictures)}; expected files named *{' *'.join(SUFFIXES)}")
    unread = 0
    for first in range(0, len(paths), BATCH_SIZE):
        read, inputs = [], []
        for path in paths[first : first + BATCH_SIZE]:
            try:
                inputs.append(network.prepared(path))
                read.append(path)
            except Exception as error:  # those of Pillow's decoders have no class in common
                unread += 1
                fail(f"{path} cannot be read: {error}")
        for path, shares in zip(read, network.probabilities(np.stack(inputs)) if inputs else ()):
            best = np.argsort(-shares, kind="stable")[: args.top]
            print(f"{path}  " + ", ".join(f"{network.name(label)} {shares[label]:.1%}" for label in best))
    return 2 if unread else 0


def in_colour(image):
    """As RGB of 8 bits; Pillow would clip grey of 16 bits."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


def find(path):
    """A file as it is named; of a folder the pictures below it, sorted."""
    if not os.path.isdir(path):
        return [path]
    return sorted(
        os.path.join(folder, name)
        for folder, _, names in os.walk(path)
        for name in names
        if name.lower().endswith(SUFFIXES)
    )


def fail(message):
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
