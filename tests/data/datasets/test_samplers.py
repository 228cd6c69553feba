"""A position alone decides what is trained on: in order, over ranks, after resuming, with any number of workers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from regionclip.data.datasets.stream import ResumableSampler, ShuffledStream, StreamDataset
from regionclip.engine.training import ResumableIterBasedTrainLoop


class Noisy(Dataset):
    """Ten records: an index and a number from numpy's global generator, as MMDetection's transforms draw it."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> torch.Tensor:
        self.read.append(index)
        return torch.tensor([float(index), np.random.rand()])  # noqa: NPY002


@given(st.integers(1, 40), st.integers(0, 5), st.integers(0, 10**6))
def test_each_epoch_shows_every_image_once(size, epoch, seed):
    """The positions of an epoch are a permutation of the indices."""
    stream = ShuffledStream(size, seed)
    places = [stream.locate(epoch * size + i) for i in range(size)]
    assert {e for e, _ in places} == {epoch} and sorted(index for _, index in places) == list(range(size))


def test_order_and_choices_depend_on_seed_epoch_and_index():
    """Other seeds and epochs give other orders; the generator of an image changes with each of the three."""
    orders = [
        tuple(ShuffledStream(50, seed).locate(e * 50 + i)[1] for i in range(50)) for seed in (0, 1) for e in (0, 1)
    ]
    assert len(set(orders)) == 4
    draws = {ShuffledStream(50, seed).rng(e, i).random() for seed in (0, 1) for e in (0, 1) for i in (0, 1)}
    assert len(draws) == 8
    assert ShuffledStream(50, 0).locate(7) == ShuffledStream(50, 0).locate(7)


@given(size=st.integers(1, 60), batch=st.integers(1, 9), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_grouped_batches_are_of_one_kind_and_epochs_are_whole(size, batch, share, seed):
    """Each epoch shows every image once; batches of both kinds are only those that an epoch's end is in."""
    tall = np.random.default_rng(seed).random(size) < share
    stream = ShuffledStream(size, seed, tall, batch)
    found = [stream.locate(position) for position in range(5 * size)]
    for epoch in range(5):
        assert sorted(index for at, index in found if at == epoch) == list(range(size))
    mixed = 0
    for start in range(0, len(found) - batch + 1, batch):
        kinds = {bool(tall[index]) for _, index in found[start : start + batch]}
        mixed += len(kinds) > 1
    # What fills no batch of its kind is less than two batches, at the start of an epoch or at its end.
    assert mixed <= 5 * 3


def test_without_grouping_the_order_is_as_it_was():
    tall = np.arange(12) % 2 == 0
    plain, grouped = ShuffledStream(12, 3), ShuffledStream(12, 3, tall, 3)
    order = [plain.locate(position)[1] for position in range(12)]
    assert order == [int(index) for index in plain.rng(0, 12).permutation(12)]
    batches = [[grouped.locate(start + place)[1] for place in range(3)] for start in range(0, 12, 3)]
    assert all(len({bool(tall[index]) for index in batch}) == 1 for batch in batches) and sum(batches, []) != order


def test_sampler_strides_over_ranks():
    """Two processes share the stream without overlap, from any start."""
    streams = []
    for rank in (0, 1):
        sampler = ResumableSampler(Noisy(), start=6)
        sampler.rank, sampler.world_size = rank, 2
        positions = iter(sampler)
        streams.append([next(positions) for _ in range(3)])
    assert streams == [[6, 8, 10], [7, 9, 11]] and len(ResumableSampler(Noisy())) == 10


@pytest.mark.parametrize("workers", [0, 2])
def test_records_do_not_depend_on_workers(workers):
    """The records drawn through a loader are those of the positions, with the random numbers of the positions."""
    data = StreamDataset(Noisy(), seed=3)
    loader = iter(DataLoader(data, batch_size=4, sampler=ResumableSampler(data, start=8), num_workers=workers))
    got = torch.cat([next(loader) for _ in range(3)])
    torch.testing.assert_close(got, torch.stack([data[position] for position in range(8, 20)]))
    assert len({value for _, value in got.tolist()}) == 12


def test_global_generators_are_put_back():
    """Reading a record leaves numpy's global generator as it was."""
    data = StreamDataset(Noisy(), seed=3)
    np.random.seed(5)  # noqa: NPY002
    wanted = np.random.rand()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    data[0]
    assert np.random.rand() == wanted  # noqa: NPY002


class Recorder(BaseModel):
    """Keeps the batches it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.batches: list[list[list[float]]] = []

    def train_step(self, data: torch.Tensor, optim_wrapper: OptimWrapper) -> dict[str, Any]:
        """Record the batch; the weight stays."""
        self.batches.append(data.tolist())
        return {}

    def forward(self) -> None:
        """Not used; a Runner's model must have it."""


def _runner(
    folder, data: Dataset, workers: int, loop: str = ResumableIterBasedTrainLoop.__name__
) -> tuple[Runner, Recorder]:
    model = Recorder()
    loader = {
        "dataset": data, "batch_size": 2, "num_workers": workers, "persistent_workers": workers > 0,
        "sampler": {"type": "ResumableSampler"}, "collate_fn": {"type": "default_collate"},
    }  # fmt: skip
    runner = Runner(
        model=model, work_dir=str(folder), train_dataloader=loader, train_cfg={"type": loop, "max_iters": 7},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}}, log_level="ERROR",
        experiment_name=f"{folder.name}{workers}",
        default_hooks={"checkpoint": None, "logger": None, "runtime_info": None},
    )  # fmt: skip
    return runner, model


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_loop_goes_on_where_it_was(tmp_path, workers):
    """From iteration 5 of 7 the loop gives batches 5 and 6 of the uninterrupted run, and decodes no others."""
    runner, whole = _runner(tmp_path, StreamDataset(Noisy(), seed=1), 0)
    runner.train()
    assert len(whole.batches) == 7
    runner, rest = _runner(tmp_path, StreamDataset(Noisy(), seed=1), workers)
    runner.train_loop._iter = 5
    runner.train_loop.run()
    assert rest.batches == whole.batches[5:]
    if not workers:
        data = runner.train_dataloader.dataset
        assert data.dataset.read == [data.stream.locate(position)[1] for position in range(10, 14)]
