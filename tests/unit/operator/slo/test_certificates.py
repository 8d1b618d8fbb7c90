"""The metrics server's certificate is always one that the API server believes."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509

from trade2026_operator.slo.certificates import (
    AUTHORITY_DAYS,
    RENEW_DAYS,
    SERVER_DAYS,
    Certificates,
    from_data,
    renewed,
    to_data,
)

NAMES = ("metrics.ops.svc", "metrics.ops.svc.cluster.local")
NOW = datetime.now(UTC).replace(microsecond=0)


def test_what_is_good_for_long_enough_stays() -> None:
    made = renewed(None, NAMES, NOW)
    assert from_data(to_data(made)) == made
    assert renewed(made, NAMES, NOW + timedelta(days=SERVER_DAYS - RENEW_DAYS - 1)) is made


def test_it_is_renewed_in_good_time_by_the_same_authority() -> None:
    made = renewed(None, NAMES, NOW)
    later = renewed(made, NAMES, NOW + timedelta(days=SERVER_DAYS - RENEW_DAYS + 1))
    assert later.certificate != made.certificate and later.authorities == made.authorities
    assert renewed(made, ("other.ops.svc",), NOW).certificate != made.certificate


def test_a_new_authority_comes_beside_the_old_one_which_still_stands() -> None:
    made = renewed(None, NAMES, NOW)
    later = renewed(made, NAMES, NOW + timedelta(days=AUTHORITY_DAYS - SERVER_DAYS + 1))
    found = x509.load_pem_x509_certificates(later.authorities.encode())
    assert len(found) == 2 and made.authorities in later.authorities
    server = x509.load_pem_x509_certificate(later.certificate.encode())
    server.verify_directly_issued_by(found[0])
    gone = renewed(later, NAMES, NOW + timedelta(days=AUTHORITY_DAYS + 1))
    assert made.authorities not in gone.authorities


@pytest.mark.parametrize("data", [{}, {"ca.crt": "!"}, to_data(Certificates("no", "no", "no", "no"))])
def test_what_somebody_else_has_put_there_is_replaced(data: dict[str, str]) -> None:
    made = renewed(from_data(data), NAMES, NOW)
    assert renewed(made, NAMES, NOW) is made


async def test_a_client_with_the_bundle_believes_the_server(tmp_path: Path) -> None:
    made = renewed(None, ("localhost",), NOW)
    (tmp_path / "tls.crt").write_text(made.certificate)
    (tmp_path / "tls.key").write_text(made.key)
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application()
    app.add_routes([web.get("/", answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=serving)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    try:
        believing = ssl.create_default_context(cadata=made.authorities)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"https://localhost:{port}/", ssl=believing) as answer:
                assert answer.status == 200
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(f"https://localhost:{port}/", ssl=ssl.create_default_context())
    finally:
        await runner.cleanup()
