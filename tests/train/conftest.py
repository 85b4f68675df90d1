import time

import pytest

from cp2fast.data.scenes import generate_scenes
from tests.pretrain.runs import PHOTOS, write_photos
from tests.train.clock import Clock
from tests.train.tasks import Kind


@pytest.fixture(scope="module", params=["pretrain", "finetune"])
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kind:
    data = tmp_path_factory.mktemp("data") / request.param
    if request.param == "pretrain":
        write_photos(data, PHOTOS)
    else:
        generate_scenes(data, 10, seed=5)
    return Kind(request.param, data)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock
