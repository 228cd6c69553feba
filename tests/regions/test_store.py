"""The region store gives back what was put in, refuses what is wrong, and reads the same from many workers."""

from __future__ import annotations

import pickle
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionclip.errors import InputError
from regionclip.files import sha256_tree, write_json
from regionclip.regions.store import RegionStore, Shard
from regionclip.regions.store_writer import RegionStoreWriter

BOXES = np.array([[1, 2, 3, 5], [0, 0, 10, 10.5]], np.float32)
LOGITS = np.array([2.5, -1.0], np.float32)


def write(path: Path, images: dict, k: int = 0, **options) -> RegionStore:
    """Write ``images`` (id to arguments of ``add``) and open the store."""
    with RegionStoreWriter(path, {"teacher": "abc", "view": "roi"}, k=k, **options) as writer:
        for image_id, values in images.items():
            writer.add(image_id, *values)
    return RegionStore.open(path)


@st.composite
def stores(draw):
    """Images with 0 to 4 regions, k of 0 to 3, ids of either kind."""
    k = draw(st.integers(0, 3))
    ids = draw(st.one_of(st.sets(st.integers(-(2**62), 2**62), max_size=6), st.sets(st.text(max_size=5), max_size=6)))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    images = {}
    for image_id in ids:
        n = draw(st.integers(0, 4))
        corner = rng.uniform(-5, 50, (n, 2)).astype(np.float32)
        boxes = np.hstack([corner, corner + rng.uniform(0.5, 9, (n, 2)).astype(np.float32)])
        labels = (rng.integers(0, 9, (n, k)), rng.random((n, k), np.float32)) if k else ()
        images[image_id] = (boxes, rng.normal(size=n).astype(np.float32), *labels)
    return k, images


@settings(max_examples=40)
@given(stores(), st.integers(1, 4))
def test_what_was_written_is_read(tmp_path_factory, case, shard_rows):
    """Any images, in any number of shards, come back exactly and in order."""
    k, images = case
    store = write(tmp_path_factory.mktemp("s") / "store", images, k=k, shard_rows=shard_rows)
    assert store.image_ids == list(images) and len(store) == len(images) and store.k == k
    assert store.num_regions == sum(len(values[0]) for values in images.values()) == len(store.to_pandas())
    for image_id, values in images.items():
        assert image_id in store
        got = [value for value in store[image_id] if value is not None]
        assert len(got) == len(values)
        for value, wanted in zip(got, values, strict=True):
            assert value.shape == wanted.shape
            np.testing.assert_array_equal(value, wanted)


def test_types_and_metadata(tmp_path):
    """Dtypes are the documented ones, values are read-only views, and the metadata holds just what was given."""
    labels = np.array([[3, 1], [0, 2]]), np.array([[0.75, 0.25], [0.5, 0.25]])
    store = write(tmp_path / "s", {7: (BOXES, LOGITS, *labels)}, k=2)
    regions = store[7]
    assert [value.dtype.name for value in regions[:4]] == ["float32", "float32", "int32", "float32"]
    assert not any(value.flags.writeable or value.flags.owndata for value in regions[:4])
    assert regions.features_of("a star") is None
    assert store.metadata == {"teacher": "abc", "view": "roi"}
    assert "abc" not in store and 8 not in store


def test_captions_lie_beside_the_regions(tmp_path):
    """Each image's own, any number of them, by their text; in any number of shards, one of which has none at all."""
    wanted = {7: {"a star": [1.0, 2], "ein Bär": [3, 4]}, 5: {}, 6: {"a star": [5, 6]}}
    images = {image_id: (BOXES, LOGITS, None, None, captions) for image_id, captions in wanted.items()}
    for rows in (1, 2, 3):
        store = write(tmp_path / f"{rows}", images, shard_rows=rows, caption_width=2)
        for image_id, captions in wanted.items():
            regions = store[image_id]
            assert {text: regions.features_of(text).tolist() for text in captions} == captions
            assert regions.features_of("a ring") is None and regions.caption_features.dtype == np.float32
            np.testing.assert_array_equal(regions.boxes, BOXES)
    assert len(store.to_pandas()) == 6


@pytest.mark.parametrize(
    ("captions", "problem"),
    [
        (None, r"image 7.*caption_keys.*wanted \(0,\)|shape None"),
        ({"a star": [1.0]}, r"shape \(1, 1\), wanted \(1, 2\)"),
        ({"a star": [1.0, np.nan]}, "not finite"),
    ],
)
def test_captions_that_do_not_fit_are_refused(tmp_path, captions, problem):
    with pytest.raises(InputError, match=problem):
        write(tmp_path / "s", {7: (BOXES, LOGITS, None, None, captions)}, caption_width=2)


def test_table(tmp_path):
    """The table has one row a region with the best concept; ``limit`` cuts it."""
    labels = np.array([[3, 1], [0, 2]]), np.array([[0.75, 0.25], [0.5, 0.25]])
    store = write(
        tmp_path / "s",
        {7: (BOXES, LOGITS, *labels), 5: (BOXES[:1], LOGITS[:1], labels[0][:1], labels[1][:1])},
        k=2,
        shard_rows=1,
    )
    table = store.to_pandas()
    assert list(table.columns) == ["image_id", "x1", "y1", "x2", "y2", "objectness", "top_concept", "top_prob"]
    assert table.iloc[1].tolist() == [7, 0, 0, 10, 10.5, -1, 0, 0.5]
    assert table["image_id"].tolist() == [7, 7, 5] and store.to_pandas(limit=2)["image_id"].tolist() == [7, 7]


def test_same_input_gives_same_bytes(tmp_path):
    """The bytes depend on the values only, not on the order of the metadata."""
    for name, metadata in (("a", {"x": "1", "y": "2"}), ("b", {"y": "2", "x": "1"})):
        with RegionStoreWriter(tmp_path / name, metadata) as writer:
            writer.add(1, BOXES, LOGITS)
    assert sha256_tree(tmp_path / "a") == sha256_tree(tmp_path / "b")


def _read(store: RegionStore, image_id: int) -> np.ndarray:
    return store[image_id].boxes.copy()


def test_other_processes_open_the_store_again(tmp_path):
    """A store pickled to a spawned process gives the same boxes there, and the pickle holds no data."""
    store = write(tmp_path / "s", {i: (BOXES + i, LOGITS) for i in range(100)}, shard_rows=7)
    assert len(pickle.dumps(store)) < 500
    with get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(_read, (store, 42)), BOXES + 42)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ((BOXES[:, :3], LOGITS), "boxes"),
        ((BOXES, LOGITS[:1]), "objectness"),
        ((BOXES * np.nan, LOGITS), "boxes"),
        ((BOXES, LOGITS + np.inf), "objectness"),
        ((BOXES[:, [2, 1, 0, 3]], LOGITS), "boxes"),
        ((BOXES[:, [0, 1, 0, 3]], LOGITS), "boxes"),
        ((BOXES, LOGITS, np.zeros((2, 1), int), np.zeros((2, 1))), "concept_index"),
    ],
)
def test_wrong_values_are_refused(tmp_path, values, key):
    """A wrong shape, a value that is not finite or a box without area names image and column, and leaves no store."""
    with pytest.raises(InputError) as caught:
        write(tmp_path / "s", {3: values})
    assert (caught.value.record, caught.value.key) == (3, key)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("index", "prob", "key"),
    [
        (None, None, "concept_index"),
        ([[0], [-1]], [[0.1], [0.2]], "concept_index"),
        ([[0.5], [1]], [[0.1], [0.2]], "concept_index"),
        ([[0], [1]], [[0.1], [1.2]], "concept_prob"),
        ([[0], [1]], [[0.1]], "concept_prob"),
    ],
)
def test_wrong_labels_are_refused(tmp_path, index, prob, key):
    """With k = 1 the labels must be there, be indices and be probabilities."""
    labels = () if index is None else (np.array(index), np.array(prob))
    with pytest.raises(InputError) as caught:
        write(tmp_path / "s", {3: (BOXES, LOGITS, *labels)}, k=1)
    assert caught.value.key == key


def test_ids_are_unique_and_of_one_kind(tmp_path):
    """An image added twice, or an id of another kind, is refused."""
    with RegionStoreWriter(tmp_path / "s", {}) as writer:
        writer.add(1, BOXES, LOGITS)
        with pytest.raises(InputError, match="added before"):
            writer.add(1, BOXES, LOGITS)
        with pytest.raises(InputError, match="another kind"):
            writer.add("2", BOXES, LOGITS)
    assert RegionStore.open(tmp_path / "s").image_ids == [1]


def test_a_failed_writer_keeps_the_old_store(tmp_path):
    """An error inside the block leaves the store that was there."""
    write(tmp_path / "s", {1: (BOXES, LOGITS)})
    with pytest.raises(RuntimeError), RegionStoreWriter(tmp_path / "s", {}) as writer:
        writer.add(2, BOXES, LOGITS)
        raise RuntimeError("stopped")
    assert RegionStore.open(tmp_path / "s").image_ids == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_missing_image_is_named(tmp_path):
    """Asking for an image that is not there names the store and the image."""
    store = write(tmp_path / "s", {1: (BOXES, LOGITS)})
    with pytest.raises(InputError) as caught:
        store[2]
    assert caught.value.record == "2" and caught.value.file == tmp_path / "s" and caught.value.mend


def test_store_of_another_teacher_is_refused(tmp_path):
    """``require`` names each key that differs, what the store has and what was wanted."""
    store = write(tmp_path / "s", {1: (BOXES, LOGITS)})
    store.require(teacher="abc", view="roi")
    with pytest.raises(InputError, match="'abc', wanted 'xyz'") as caught:
        store.require(teacher="xyz")
    assert caught.value.key == "teacher"
    with pytest.raises(InputError, match="view 'roi', wanted 'crop'; .* with bank None, wanted 'b'") as caught:
        store.require(teacher="abc", view="crop", bank="b")
    assert caught.value.key == "view, bank"


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.9])
def test_truncated_shard_is_named(tmp_path, keep):
    """A shard cut anywhere is refused with its file name when the store is opened."""
    write(tmp_path / "s", {i: (BOXES, LOGITS) for i in range(8)}, shard_rows=4)
    shard = tmp_path / "s" / "00001.arrow"
    data = shard.read_bytes()
    shard.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(InputError) as caught:
        RegionStore.open(tmp_path / "s")
    assert caught.value.file == shard


def test_broken_folders_are_refused(tmp_path):
    """No contents file, contents of another kind, a missing shard and a shard of another store each give an error."""
    with pytest.raises(InputError, match="does not exist"):
        RegionStore.open(tmp_path)
    write_json(tmp_path / "store.json", {"shard": 1})
    with pytest.raises(InputError, match="not the contents"):
        RegionStore.open(tmp_path)
    write(tmp_path / "a", {i: (BOXES, LOGITS) for i in range(2)}, shard_rows=1)
    write(
        tmp_path / "b",
        {i: (BOXES, LOGITS, BOXES[:, :1].astype(int), LOGITS[:, None] * 0) for i in range(2)},
        k=1,
        shard_rows=1,
    )
    second = tmp_path / "a" / "00001.arrow"
    second.unlink()
    with pytest.raises(InputError, match="shard does not exist"):
        RegionStore.open(tmp_path / "a")
    (tmp_path / "b" / "00001.arrow").rename(second)
    with pytest.raises(InputError, match=r"00001\.arrow: the shard has \d+ bytes"):
        RegionStore.open(tmp_path / "a")
    second.write_bytes((tmp_path / "a" / "00000.arrow").read_bytes())
    with pytest.raises(InputError, match=r"00001\.arrow, record 0: the image is in the store twice"):
        RegionStore.open(tmp_path / "a")[1]
    write_json(tmp_path / "a" / "store.json", {"shards": []})
    with pytest.raises(InputError, match="lists no shard"):
        RegionStore.open(tmp_path / "a")


def test_shard_of_another_store_is_refused_when_it_is_read(tmp_path):
    """A shard of the same size from a store of another teacher is refused by its schema."""
    for name, teacher in (("a", "abc"), ("b", "xyz")):
        with RegionStoreWriter(tmp_path / name, {"teacher": teacher}, shard_rows=1) as writer:
            for image_id in (1, 2):
                writer.add(image_id, BOXES, LOGITS)
    second = tmp_path / "a" / "00001.arrow"
    second.write_bytes((tmp_path / "b" / "00001.arrow").read_bytes())
    store = RegionStore.open(tmp_path / "a")
    with pytest.raises(InputError, match=r"00001\.arrow: the schema differs"):
        store[1]


def test_indices_take_two_bytes_when_the_pool_allows(tmp_path):
    """A pool of 65,536 concepts is indexed in uint16, a larger one in int32; an index outside is refused."""
    labels = np.array([[2**16 - 1], [0]]), np.array([[0.5], [0.25]])
    for concepts, wanted in ((2**16, "uint16"), (2**16 + 1, "int32")):
        store = write(tmp_path / "s", {7: (BOXES, LOGITS, *labels)}, k=1, concepts=concepts)
        assert store[7].concept_index.dtype.name == wanted and store[7].concept_index.tolist() == [[65535], [0]]
    with pytest.raises(InputError, match="outside the 65535 concepts"):
        write(tmp_path / "s", {7: (BOXES, LOGITS, *labels)}, k=1, concepts=2**16 - 1)


def test_opening_reads_no_shard_but_the_first(tmp_path, monkeypatch):
    """However many shards there are, opening a store opens the first only; the first look-up reads the ids of all."""
    write(tmp_path / "s", {f"image {i}": (BOXES, LOGITS) for i in range(50)}, shard_rows=1)
    opened = []
    monkeypatch.setattr(
        "regionclip.regions.store.Shard", lambda path, rows: opened.append(path.name) or Shard(path, rows)
    )
    store = RegionStore.open(tmp_path / "s")
    assert len(store) == 50 and opened == ["00000.arrow"]
    assert "image 41" in store and len(opened) == 51
    assert len(store["image 41"].boxes) == len(store["image 41"].boxes) == 2 and opened[51:] == ["00041.arrow"]


def test_strings_with_one_key_are_told_apart(tmp_path, monkeypatch):
    """Ids whose hashes collide are each found, and one that is not there is not."""
    monkeypatch.setattr("regionclip.regions.store._keys", lambda ids: np.array([len(image_id) for image_id in ids]))
    store = write(tmp_path / "s", {"ab": (BOXES, LOGITS), "c": (BOXES[:1], LOGITS[:1]), "cd": (BOXES + 1, LOGITS)})
    np.testing.assert_array_equal(store["cd"].boxes, BOXES + 1)
    np.testing.assert_array_equal(store["ab"].boxes, BOXES)
    assert "xy" not in store and 2 not in store
