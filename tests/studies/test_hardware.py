"""The machine in words, and what is said when its memory is full."""

import jax
import jax.numpy as jnp
import pytest

from steelyard.studies.hardware import computing_device, hardware, memory_hint, use_device


def test_a_full_device_is_told_on_one_line_with_what_to_do():
    with pytest.raises(jax.errors.JaxRuntimeError) as error:
        jnp.zeros(2**48).block_until_ready()  # more than any machine can address
    hint = memory_hint(error.value)
    assert hint is not None
    assert "\n" not in hint
    assert hint.startswith(f"out of memory on {computing_device().device_kind}")
    for part in (
        "could not allocate 1048576.0 GiB",
        "--seed-group 1",
        "--batch-size",
        "XLA_PYTHON_CLIENT_PREALLOCATE=false",
    ):
        assert part in hint


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8589934592 bytes.", "8.0 GiB"),
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 12.5GiB.", "12.5GiB"),
        ("RESOURCE_EXHAUSTED: Failed to load the kernel", "nothing more fits"),
    ],
)
def test_what_ran_out_is_told_as_the_device_says_it(message, told):
    assert told in (memory_hint(jax.errors.JaxRuntimeError(message)) or "")


def test_other_errors_have_no_hint_about_memory():
    assert memory_hint(jax.errors.JaxRuntimeError("INTERNAL: broken")) is None
    assert memory_hint(RuntimeError("RESOURCE_EXHAUSTED: not of the device")) is None


def test_what_is_recorded_is_the_device_that_was_chosen():
    before = jax.config.values["jax_default_device"]
    use_device("cpu")
    try:
        assert computing_device().platform == "cpu"
        assert hardware().endswith("(cpu)")
    finally:
        jax.config.update("jax_default_device", before)
