"""Tiny archives in the official formats, laid out byte for byte as their publishers lay out the originals."""

import gzip
import io
import struct
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# the order in which the published archive holds them
CIFAR10_FILES = ("data_batch_1", "batches.meta.txt", "data_batch_3", "data_batch_4", "test_batch", "readme.html")
CIFAR10_FILES += ("data_batch_5", "data_batch_2")


def tarred(files: Iterable[tuple[str, bytes | None]], format: int = tarfile.USTAR_FORMAT) -> bytes:
    """A .tar; a name without content is a folder."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content or b""))
    return stream.getvalue()


def packed(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=1, mtime=0)


def pixels(seed: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# --- CIFAR ------------------------------------------------------------------------------------------------------------


def cifar_batch(images: NDArray[np.uint8], *labels: Iterable[int]) -> bytes:
    """images (N, 32, 32, 3); labels: the bytes before the pixels, each (N). A record is labels, then three planes."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([np.array([*labels], dtype=np.uint8).T, planes], axis=1).tobytes()


def cifar10(each: int = 20) -> tuple[dict[str, bytes], dict[str, tuple[NDArray[np.uint8], list[int]]]]:
    """The files by name; and images with labels by file, of the six batches."""
    files: dict[str, bytes] = {}
    truth = {}
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    for seed, name in enumerate(names):
        labels = [(seed + place) % 10 for place in range(each)]
        truth[name] = pixels(seed, each, 32, 32, 3), labels
        files[f"{name}.bin"] = cifar_batch(truth[name][0], labels)
    files["batches.meta.txt"] = ("\n".join(CIFAR10_CLASSES) + "\n\n").encode()  # it ends with an empty line
    files["readme.html"] = b'<meta HTTP-EQUIV="REFRESH" content="0; url=http://www.cs.toronto.edu/~kriz/cifar.html">\n'
    return files, truth


def cifar10_archive(files: Mapping[str, bytes]) -> bytes:
    named = [name if "." in name else f"{name}.bin" for name in CIFAR10_FILES]
    inside = [(f"cifar-10-batches-bin/{name}", files[name]) for name in named if name in files]
    return packed(tarred([("cifar-10-batches-bin", None), *inside]))


def cifar100(train: int = 200, test: int = 100) -> tuple[dict[str, bytes], list[int], list[int]]:
    """The files by name; coarse and fine labels of the training images."""
    fine = [place % 100 for place in range(train)]
    coarse = [label // 5 for label in fine]
    files = {
        "train.bin": cifar_batch(pixels(0, train, 32, 32, 3), coarse, fine),
        "test.bin": cifar_batch(pixels(1, test, 32, 32, 3), coarse[:test], fine[:test]),
        "fine_label_names.txt": "".join(f"fine_{number:02d}\n" for number in range(100)).encode(),
        "coarse_label_names.txt": "".join(f"coarse_{number:02d}\n" for number in range(20)).encode(),
    }
    return files, coarse, fine


def cifar100_archive(files: Mapping[str, bytes]) -> bytes:
    inside = [(f"cifar-100-binary/{name}", content) for name, content in files.items()]
    return packed(tarred([("cifar-100-binary/", None), *inside]))


# --- IDX --------------------------------------------------------------------------------------------------------------


def idx(values: NDArray[np.uint8]) -> bytes:
    """Two zeros, the type (8: unsigned bytes), the dimensions, their sizes as big-endian 32-bit numbers, the values."""
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}i", *values.shape) + values.tobytes()


def mnist(train: int = 60, test: int = 20, side: int = 28) -> dict[str, NDArray[np.uint8]]:
    """The arrays by the names of their files."""
    return {
        "train-images-idx3-ubyte": pixels(0, train, side, side),
        "train-labels-idx1-ubyte": (np.arange(train) % 10).astype(np.uint8),
        "t10k-images-idx3-ubyte": pixels(1, test, side, side),
        "t10k-labels-idx1-ubyte": (np.arange(test) % 10).astype(np.uint8),
    }


# --- ImageNet ---------------------------------------------------------------------------------------------------------

# ILSVRC2012_ID is not in the order of the WordNet numbers; two synsets share a first name; the last has children.
SYNSETS = (
    (1, "n02119789", "kit fox, Vulpes macrotis", 0),
    (2, "n02124075", "Egyptian cat", 0),
    (3, "n02012849", "crane", 0),
    (4, "n03126707", "crane", 0),
    (5, "n00001740", "entity", 4),
)


def meta_mat(synsets: Iterable[tuple[int, str, str, int]] = SYNSETS, name: str = "synsets") -> bytes:
    from scipy.io import savemat

    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height")
    fields += ("num_train_images",)
    rows = np.array(
        [
            ([[number]], wnid, words, "a gloss", [[children]], np.zeros((1, children)), [[0]], [[4]])
            for number, wnid, words, children in synsets
        ],
        dtype=[(field, object) for field in fields],
    )
    stream = io.BytesIO()
    savemat(stream, {name: rows.reshape(-1, 1)}, do_compression=True)
    return stream.getvalue()


def jpeg(colour: tuple[int, int, int], width: int = 40, height: int = 30) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def imagenet(each: int = 4) -> dict[str, dict[str, bytes]]:
    """The members of the three files: train by synset tar, validation images, devkit files."""
    leaves = [synset for synset in SYNSETS if synset[3] == 0]
    train = {
        f"{wnid}.tar": tarred(
            [(f"{wnid}_{place}.JPEG", jpeg((20 * number, 10 * place, 0))) for place in range(each)], tarfile.GNU_FORMAT
        )
        for number, wnid, *_ in leaves
    }
    validation = {f"ILSVRC2012_val_{place:08d}.JPEG": jpeg((0, 0, 10 * place)) for place in range(1, 9)}
    devkit = {
        "ILSVRC2012_devkit_t12/readme.txt": b"...",
        "ILSVRC2012_devkit_t12/data/meta.mat": meta_mat(),
        "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": b"4\n2\n1\n3\n1\n2\n3\n4\n",
    }
    return {"train": train, "validation": validation, "devkit": devkit}


def write_imagenet(folder: Path, parts: Mapping[str, Mapping[str, bytes]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    devkit = [("ILSVRC2012_devkit_t12/", None), ("ILSVRC2012_devkit_t12/data/", None), *parts["devkit"].items()]
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tarred(parts["train"].items(), tarfile.GNU_FORMAT))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tarred(parts["validation"].items(), tarfile.GNU_FORMAT))
    (folder / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(packed(tarred(devkit)))
