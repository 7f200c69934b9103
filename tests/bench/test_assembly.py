import pytest
import torch

from bench.assembly import usable_device
from bench.errors import UserError


def test_without_a_name_a_gpu_is_used_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert usable_device(None) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert usable_device(None) == "cuda"
    assert usable_device("cuda:1") == "cuda:1"
    with pytest.raises(
        UserError, match="device 'cuda:2': this machine has cpu, cuda, cuda:0, cuda:1"
    ):
        usable_device("cuda:2")


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"device 'cuda': this machine has cpu$"):
        usable_device("cuda")
