"""The same result on 1, 2 and 8 devices and in 2 processes."""

import functools
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

JOB = """
import sys
out, devices, address, count, own = sys.argv[1:]
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", int(devices))
if int(count) > 1:
    jax.distributed.initialize(address, int(count), int(own))
assert jax.device_count() == int(devices) * int(count)
import numpy as np
from pathlib import Path
from wna_jax import noise, responses, reverse_correlate
from wna_jax.networks import Network, untrained
from wna_jax.runs import store
store._SECONDS_BETWEEN_SAVES = 0.0 if int(own) == 0 else 1e9  # clocks differ: one would always save, the other never
with jax.default_device(jax.local_devices()[0]):
    network = untrained("paper_cnn", (28, 28, 1), 10, 5)
last = network.parameters["fc2"]
network = Network(network.module, network.parameters | {"fc2": jax.tree.map(lambda leaf: 4 * leaf, last)})
respond = responses.of_classifier(network)
for sampling in ("independent", "field"):
    state = Path(out) / sampling
    moments = reverse_correlate(
        noise.uniform((28, 28, 1)), respond, 20_000, batch_size=8192, sampling=sampling, state_dir=state
    )
    if int(own) == 0:
        d, p = moments["decision"], moments["probability"]
        np.savez(f"{state}.npz", count=d.count, sum=p.sum, square_sum=p.square_sum, draws=p.draw_square_sum)
"""


@functools.cache
def result(folder: Path, devices: int, processes: int) -> dict[str, dict[str, np.ndarray]]:
    out = folder / f"{devices}-{processes}"
    out.mkdir()
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    started = []
    for own in range(processes):
        with (out / f"{own}.log").open("w") as log:  # a full pipe would stop a process that another one waits for
            command = [sys.executable, "-c", JOB, str(out), str(devices), address, str(processes), str(own)]
            started.append(subprocess.Popen(command, stderr=log))
    try:
        for process in started:
            assert process.wait(timeout=300) == 0, "".join(log.read_text() for log in out.glob("*.log"))
    finally:
        for process in started:
            process.kill()
    return {name: dict(np.load(out / f"{name}.npz")) for name in ("independent", "field")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("devices")


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["independent", "field"])
@pytest.mark.parametrize(("devices", "processes"), [(2, 1), (8, 1), (1, 2)])
def test_counts_are_equal_and_sums_to_rounding(folder: Path, sampling: str, devices: int, processes: int) -> None:
    one, many = result(folder, 1, 1)[sampling], result(folder, devices, processes)[sampling]
    np.testing.assert_array_equal(many["count"], one["count"])
    assert (one["count"] > 0).sum() >= 2
    for name in ("sum", "square_sum", "draws"):
        np.testing.assert_allclose(many[name], one[name], rtol=1e-6)
