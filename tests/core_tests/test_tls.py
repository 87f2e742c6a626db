"""Certificates: who is let into a search by Dask, and flags that do not belong together."""

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from calls import refuse

from spos.core import executors
from spos.core.errors import InputError
from spos.core.executors import DaskExecutor
from spos.core.tls import TlsOptions

NONE = TlsOptions()


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def authority(folder, name):
    """A certificate that signs others, and one for everybody here that it signed."""
    ca, ca_key, cert, key, request = (folder / f"{name}{end}" for end in ("-ca.pem", "-ca.key", ".pem", ".key", ".csr"))
    new = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *new, "-days", 2, "-subj", f"/CN={name}", "-keyout", ca_key, "-out", ca)
    openssl("req", *new, "-subj", "/CN=member", "-keyout", key, "-out", request)
    openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", 2, "-out", cert)
    return TlsOptions(str(ca), str(cert), str(key))


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    if not shutil.which("openssl"):
        pytest.skip("openssl, which makes the certificates, is not there")
    return authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def strangers(ours, tmp_path_factory):
    return authority(tmp_path_factory.mktemp("strangers"), "strangers")


@pytest.fixture
def guarded(ours, reach_calls):
    """A scheduler and a worker that want certificates."""
    pytest.importorskip("distributed", reason="Dask is not installed")
    from utils.search_cluster import LocalCluster

    with LocalCluster(1, ours) as cluster:
        yield cluster


def test_only_who_has_a_certificate_is_let_in(guarded, ours, strangers, monkeypatch):
    executor = DaskExecutor(guarded.address, ours)
    try:
        with pytest.raises(InputError, match="^bad input$"):  # raised there, so the call was made
            executor.submit(refuse).result()
        (worker,) = executor._client.scheduler_info()["workers"]
        assert worker.startswith("tls://127.0.0.1:")
        monkeypatch.setattr(executors, "CONNECT_SECONDS", 2)
        for tls, address in ((strangers, guarded.address), (NONE, guarded.address.replace("tls", "tcp"))):
            with pytest.raises(InputError, match="cannot be reached"):
                DaskExecutor(address, tls)
        for tls, address in (
            (strangers, guarded.address),
            (replace(strangers, tls_ca_file=ours.tls_ca_file), guarded.address),
            (NONE, guarded.address.replace("tls", "tcp")),
        ):
            assert is_turned_away(address, tls)
        assert list(executor._client.scheduler_info()["workers"]) == [worker]
    finally:
        executor.shutdown()


def is_turned_away(address, tls):
    """Whether a worker never hears from the scheduler: it gives up, or still tries after some seconds."""
    flags = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1", "--death-timeout", "4")
    command = [sys.executable, *executors.WORKER, address, *flags, *tls.arguments]
    worker = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return worker.returncode != 0 and "Registered to" not in worker.stderr


def test_a_stranger_cannot_make_a_worker_run_anything(guarded, ours):
    """As `rpc(worker).run` could without certificates."""
    executor = DaskExecutor(guarded.address, ours)
    (worker,) = executor._client.scheduler_info()["workers"]
    executor.shutdown()
    code = (
        "import asyncio, sys\nfrom distributed.core import rpc\nfrom distributed.protocol import dumps_function\n"
        "async def call():\n"
        "    async with rpc(sys.argv[1], timeout=3) as stranger:\n"
        "        print(await stranger.run(function=dumps_function(lambda: 'ran'), wait=True))\n"
        "asyncio.run(asyncio.wait_for(call(), 5))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, worker.replace("tls", "tcp")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0 and "ran" not in done.stdout


@pytest.mark.parametrize("missing", ("tls_ca_file", "tls_cert", "tls_key"))
def test_a_flag_or_a_file_that_is_missing_is_named(ours, tmp_path, missing):
    name = f"--{missing.replace('_', '-')}"
    with pytest.raises(InputError, match=f"{name} is missing"):
        replace(ours, **{missing: ""}).check()
    with pytest.raises(InputError, match=f"{name} .*gone does not exist"):
        replace(ours, **{missing: str(tmp_path / "gone")}).check()


def test_a_key_of_another_certificate_is_refused(ours, strangers):
    with pytest.raises(InputError, match="no certificates that belong together"):
        replace(ours, tls_key=strangers.tls_key).check()


@pytest.mark.parametrize("address", ("tcp://127.0.0.1:8786", "127.0.0.1:8786"))
def test_certificates_and_protocol_go_together(ours, address):
    with pytest.raises(InputError, match="certificates need tls://"):
        ours.check(address)
    NONE.check(address)
    with pytest.raises(InputError, match="tls:// needs --tls-ca-file, --tls-cert, --tls-key"):
        NONE.check("tls://127.0.0.1:8786")
    ours.check("tls://127.0.0.1:8786")
