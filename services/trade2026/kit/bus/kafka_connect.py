"""The first connection to the brokers, and why there is none, in words that say what to do."""

import ssl

from aiokafka import errors
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import create_conn

from trade2026.kit.bus.kafka_settings import KafkaSettings
from trade2026.kit.bus.port import BusError, BusRefused

_WHERE = "spec.bus.kafka"
_DENIED = (
    errors.AuthenticationFailedError,
    errors.SaslAuthenticationFailed,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)


def make(settings: KafkaSettings, request_seconds_max: float) -> AIOKafkaClient:
    """A client that is not connected yet. Raises `BusRefused`: a file or a secret is missing."""
    sasl = settings.sasl
    return AIOKafkaClient(
        bootstrap_servers=settings.bootstrap_servers,
        client_id=f"trade2026-{settings.prefix}",
        request_timeout_ms=int(request_seconds_max * 1000),
        security_protocol=settings.security_protocol,
        ssl_context=settings.tls.context() if settings.tls is not None else None,
        sasl_mechanism=sasl.mechanism if sasl is not None else "PLAIN",
        sasl_plain_username=sasl.username() if sasl is not None else None,
        sasl_plain_password=sasl.password() if sasl is not None else None,
    )


async def bootstrap(client: AIOKafkaClient, settings: KafkaSettings) -> None:
    """Ask the first broker that answers who the others are.

    Raises:
        BusRefused: trust, names or passwords do not fit: a person must change something.
        BusError: none answers.
    """
    try:
        await client.bootstrap()
    except (errors.KafkaError, OSError, TimeoutError) as error:
        raise await _reason(client, settings, error) from error


async def _reason(client: AIOKafkaClient, settings: KafkaSettings, seen: Exception) -> BusError:
    """Connect once more to each by hand: the client only says that it could not."""
    for host, port, _ in client.hosts:
        try:
            connection = await create_conn(
                host,
                port,
                client_id=client._client_id,
                request_timeout_ms=client._request_timeout_ms,
                ssl_context=client._ssl_context,
                security_protocol=settings.security_protocol,
                sasl_mechanism=client._sasl_mechanism,
                sasl_plain_username=client._sasl_plain_username,
                sasl_plain_password=client._sasl_plain_password,
            )
        except (TimeoutError, errors.KafkaError, OSError) as error:
            if (refused := _refusal(error, f"{host}:{port}", settings)) is not None:
                return refused
            seen = error
        else:
            connection.close()
    if isinstance(seen, ConnectionRefusedError):
        told, otherwise = "nothing listens there", ""
    else:
        told, otherwise = repr(seen), _maybe(settings)
    return BusError(
        f"Kafka does not answer on {settings.bootstrap_servers}: {told}; start it, "
        f"or correct {_WHERE}.bootstrapServers{otherwise}"
    )


def _maybe(settings: KafkaSettings) -> str:
    """A broker that expects another protocol hangs up without a word."""
    if settings.tls is None:
        return f"; if it wants TLS, add {_WHERE}.tls"
    if settings.tls.cert_file:
        return ""
    return (
        f"; if it wants a certificate of ours, name it in {_WHERE}.tls.certFile; "
        f"if it does not speak TLS, leave out {_WHERE}.tls"
    )


def _refusal(error: Exception, address: str, settings: KafkaSettings) -> BusRefused | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return BusRefused(
            f"the certificate of {address} is not trusted ({error.verify_message}): name the certificate of who "
            f"signed it in {_WHERE}.tls.caFile, and call the broker as its certificate does"
        )
    if isinstance(error, ssl.SSLError):
        return BusRefused(
            f"{address} does not speak TLS with us ({error.reason or error}): correct {_WHERE}.tls or bootstrapServers"
        )
    if isinstance(error, _DENIED):
        assert settings.sasl is not None
        return BusRefused(
            f"{address} does not let us in ({error}): correct {_WHERE}.sasl.mechanism "
            f"({settings.sasl.mechanism} is used), or user name and password"
        )
    return None
