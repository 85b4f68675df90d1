import pytest
import torch

from cp2fast.errors import UserError
from cp2fast.train.precision import autocast, dtype_of, grad_scaler

CPU = torch.device("cpu")


def test_auto_is_full_precision_on_the_cpu() -> None:
    assert dtype_of("auto", CPU) == torch.float32


@pytest.mark.gpu
def test_auto_is_bfloat16_on_gpus_that_have_it() -> None:
    expected = torch.bfloat16 if torch.cuda.get_device_capability() >= (8, 0) else torch.float32
    assert dtype_of("auto", torch.device("cuda")) == expected


def test_float16_on_the_cpu_is_refused() -> None:
    with pytest.raises(UserError, match=r"train\.precision=fp16"):
        dtype_of("fp16", CPU)


@pytest.mark.parametrize("setting", ["fp32", "bf16"])
def test_products_are_in_the_dtype_and_weights_stay_float32(setting: str) -> None:
    dtype = dtype_of(setting, CPU)
    layer = torch.nn.Linear(3, 2)
    with autocast(dtype, CPU):
        output = layer(torch.ones(1, 3))
    assert output.dtype == dtype
    assert layer.weight.dtype == torch.float32


def test_only_float16_needs_its_gradients_scaled() -> None:
    assert not grad_scaler(torch.bfloat16, CPU).is_enabled()
    assert not grad_scaler(torch.float32, CPU).is_enabled()
