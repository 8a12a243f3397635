from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar, Union

_T = TypeVar("_T", covariant=True)

class WorkerInfo:
    id: int
    num_workers: int
    seed: int
    dataset: Any

class Dataset(Generic[_T]):
    def __getitem__(self, index: int) -> _T: ...

class IterableDataset(Dataset[_T], Iterable[_T]):
    def __iter__(self) -> Iterator[_T]: ...

class Sampler(Generic[_T]):
    def __iter__(self) -> Iterator[_T]: ...

class DistributedSampler(Sampler[_T]):
    def __init__(self, dataset: Dataset[_T], num_replicas: Union[None, int] = ..., rank: Union[None, int] = ...) -> None: ...
    def set_epoch(self, epoch: int) -> None: ...

def default_collate(batch: object) -> Any: ...
def get_worker_info() -> Union[None, WorkerInfo]: ...
