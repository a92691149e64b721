"""The number of host devices, which a program may have chosen before."""

from types import SimpleNamespace

import pytest

from ltjax.training import backend


@pytest.mark.parametrize(("chosen", "calls"), [(-1, [("jax_num_cpu_devices", 2)]), (4, [])])
def test_devices_are_offered_where_nobody_chose(monkeypatch, chosen, calls):
    found = []

    def update(name, value):
        found.append((name, value))
        raise RuntimeError("JAX has started")  # then the run says how many devices there are

    config = SimpleNamespace(jax_num_cpu_devices=chosen, update=update)
    monkeypatch.setattr(backend, "jax", SimpleNamespace(config=config))
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    backend.offer_devices(2)
    assert found == calls
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
    backend.offer_devices(2)
    assert found == calls
