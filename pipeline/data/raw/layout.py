"""Images in class folders, wherever the tree lies: one folder a class, or train/ [val/] test/ each with those."""

from collections.abc import Mapping, Sequence

from pipeline.data.raw.base import TEST, TRAIN, VALIDATION, Found, Scan
from pipeline.data.raw.tree import File, Tree
from pipeline.data.text import shown
from pipeline.errors import Mistake

SPLIT_NAMES = {"train": TRAIN, "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION, "test": TEST}
EXPECTED = "make one sub-folder a class, or train/ [val/] test/ each with one sub-folder a class"

# Files that are meant to be something else than an image. An unknown extension, or none, is tried as an image.
_NO_IMAGE_NAMES = (
    "avi bin cfg csv db doc docx dvc gz h5 htm html ini ipynb joblib js json jsonl lock log mat md mov mp3 mp4 npy npz"
    " parquet pdf pickle pkl pt pth py rar rst sh sqlite tar toml tsv txt wav xls xlsx xml yaml yml zip 7z"
)
_NO_IMAGE = frozenset(_NO_IMAGE_NAMES.split())


def scan_folders(tree: Tree) -> Scan:
    """Every image of a tree in class folders; a single folder around everything is stepped over.

    Raises Mistake, naming the place and the remedy, when the folders are not laid out so.
    """
    walk = tree.walk()
    layout = _Layout(tree.place, walk.folders)
    ignored = [
        *walk.ignored,
        *((file.path, "not in a class folder") for folder in layout.outside for file in walk.folders[folder]),
    ]
    found: list[Found] = []
    with_images: set[str] = set()
    for folder, files in walk.folders.items():
        owner = layout.owner(folder)
        if owner is None:
            continue
        label, split = layout.classes[owner]
        before = len(found)
        for file in files:
            if _is_no_image(file):
                ignored.append((file.path, "not an image, by its extension"))
            else:
                found.append(Found(file.path, file.stamp, label, split, file.problem))
        if len(found) > before:
            with_images.add(owner)
    empty = sorted(layout.classes.keys() - with_images)
    if empty:
        raise Mistake(*(f"{tree.place}: {shown(name)}/: no image in it; add some, or remove it" for name in empty))
    found.sort(key=lambda item: item.path)
    names = tuple(sorted({label for label, _ in layout.classes.values()}))
    return Scan(names, tuple(found), tuple(sorted(ignored)), hashes=tree.hashes)


def _is_no_image(file: File) -> bool:
    return file.path.rpartition("/")[2].rpartition(".")[2].lower() in _NO_IMAGE


class _Layout:
    """Which folders are classes.

    outside: the folders around them, whose files belong to no class.
    classes: a class folder -> the class's name, and the split that the tree itself brings.
    """

    def __init__(self, place: str, folders: Mapping[str, Sequence[File]]) -> None:
        self._place = place
        self._below: dict[str, list[str]] = {folder: [] for folder in folders}
        for folder in sorted(folders):
            if folder:
                self._below[folder.rpartition("/")[0]].append(folder)
        root = self._stepped_over(folders)
        splits = self._splits(root)
        self.outside = [root, *splits] if splits else [root]
        around = splits or {root: None}
        self._depth = (1 if root else 0) + root.count("/") + (2 if splits else 1)
        self.classes: dict[str, tuple[str, str | None]] = {}
        members = {folder: self._named(self._below[folder]) for folder in around}
        self._check(root, members)
        for folder, split in around.items():
            self.classes |= {path: (label, split) for label, path in members[folder].items()}

    def owner(self, folder: str) -> str | None:
        """The class folder that a folder is or lies in."""
        name = "/".join(folder.split("/", self._depth)[: self._depth])
        return name if name in self.classes else None

    def _stepped_over(self, folders: Mapping[str, Sequence[File]]) -> str:
        """The folder that everything lies in, as many archives have one."""
        root = ""
        while len(self._below[root]) == 1 and not folders[root]:
            only = self._below[root][0]
            if _name(only) in SPLIT_NAMES or not self._below[only]:  # a split, or a class
                break
            root = only
        return root

    def _splits(self, root: str) -> dict[str, str | None]:
        """Folder -> split, where the tree brings its own; empty where its folders are classes."""
        top = self._below[root]
        named = {folder: SPLIT_NAMES[_name(folder)] for folder in top if _name(folder) in SPLIT_NAMES}
        train = next((folder for folder in named if _name(folder) == "train"), None)
        # `train` and `bus` may be classes; train/ and test/ beside one another, with folders in them, are splits
        if train is None or (len(named) == 1 and len(top) > 1) or not self._below[train]:
            return {}
        held_out = [f"{folder}/" for folder, split in named.items() if split == VALIDATION]
        if len(held_out) > 1:
            raise Mistake(f"{self._place}: both {' and '.join(held_out)}; keep one of them")
        extra = [shown(folder) for folder in top if folder not in named]
        if extra:
            beside = ", ".join(f"{folder}/" for folder in named)
            raise Mistake(*(f"{self._place}: {name}/ lies beside {beside}; move it elsewhere" for name in extra))
        return dict(named)

    def _named(self, folders: Sequence[str]) -> dict[str, str]:
        """Class -> its folder."""
        named: dict[str, str] = {}
        for folder in folders:
            label = shown(_name(folder))
            if label in named:  # one name in two encodings
                raise Mistake(f"{self._place}: two class folders read as {label}/; rename one of them")
            named[label] = folder
        return named

    def _check(self, root: str, members: Mapping[str, Mapping[str, str]]) -> None:
        known = {label for named in members.values() for label in named}
        if not known:
            raise Mistake(f"{self._place}: empty, or no class folder in it; {EXPECTED}")
        missing = [
            f"{self._place}: {shown(folder)}/{label}/: missing, while another split has this class; add it, or remove"
            " the class"
            for folder, named in members.items()
            for label in sorted(known - named.keys())
        ]
        if missing:
            raise Mistake(*missing)
        if len(known) == 1:
            one = f"{shown(root)}/{known.pop()}".lstrip("/")
            raise Mistake(f"{self._place}: one class only ({one}/); a classifier needs two or more: {EXPECTED}")


def _name(folder: str) -> str:
    return folder.rpartition("/")[2]
