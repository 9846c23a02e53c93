"""Whether Kafka lets us in, asked over one connection: its clients only run into their time-outs."""

from __future__ import annotations

import asyncio
import ssl

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError

from errors import AccessRefused, Transient
from settings import Settings
from workers import kafka

__all__ = ["check_access"]

#: A broker that has not said a word by then is away; a TLS handshake and SCRAM take 10 ms nearby, 1 s across the world.
PATIENCE_SECONDS = 10.0
#: A bad network or a broker that only just starts closes a connection, too; a listener of another protocol does so each time.
TRIES, PAUSE_SECONDS = 3, 1.0


async def check_access(settings: Settings) -> None:
    """Connect to the first server that lets us in. Raises AccessRefused if one answers but none does, Transient if none answers."""
    try:
        kafka.ssl_context(settings)
    except OSError as err:  # an SSLError too
        raise AccessRefused(f"EARFUL_KAFKA_SSL_CAFILE={settings.kafka_ssl_cafile} holds no certificate in PEM") from err
    away: list[str] = []
    refused: AccessRefused | None = None
    for host, port, _ in collect_hosts(settings.kafka_bootstrap_servers, randomize=False):
        try:
            await _ask(settings, host, port)
        except AccessRefused as err:
            refused = refused or err
        except Transient as err:
            away.append(str(err))
        else:
            return
    raise refused or Transient(f"no Kafka answers at {', '.join(away)}")


async def _ask(settings: Settings, host: str, port: int) -> None:
    """Raises AccessRefused, or Transient with the place and why it is away."""
    place = f"{host}:{port}"
    try:
        await _connect(settings, host, port)
    except ssl.SSLCertVerificationError as err:
        why = f"the certificate of Kafka at {place} is not to be trusted ({err.verify_message})"
        raise AccessRefused(f"{why}; EARFUL_KAFKA_SSL_CAFILE names the authority's file") from err
    except ssl.SSLError as err:
        why = f"Kafka at {place} speaks no TLS that we understand ({err.reason or 'connection closed'})"
        raise AccessRefused(f"{why}; EARFUL_KAFKA_SECURITY_PROTOCOL must fit the listener") from err
    except (ConnectionResetError, ConnectionAbortedError, KafkaConnectionError) as err:
        why = f"Kafka at {place} closed {TRIES} connections; EARFUL_KAFKA_SECURITY_PROTOCOL must fit the listener"
        raise AccessRefused(why) from err
    except ConnectionRefusedError as err:
        raise Transient(f"{place} (connection refused)") from err
    except OSError as err:  # a TimeoutError too
        raise Transient(f"{place} ({err.strerror or 'no answer'})") from err
    except KafkaError as err:
        why = f"Kafka at {place} refuses user {settings.kafka_sasl_username!r} ({type(err).__name__})"
        raise AccessRefused(f"{why}; EARFUL_KAFKA_SASL_MECHANISM, _USERNAME and _PASSWORD must be right") from err


async def _connect(settings: Settings, host: str, port: int) -> None:
    options = kafka.security(settings)
    for left in reversed(range(TRIES)):
        try:
            connection = await create_conn(host, port, request_timeout_ms=int(PATIENCE_SECONDS * 1000), **options)
        except (ConnectionResetError, ConnectionAbortedError, KafkaConnectionError):
            if not left:
                raise
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            connection.close()
            return
