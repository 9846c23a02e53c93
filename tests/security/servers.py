"""Somebody's own servers: Kafka behind SASL and TLS with rights for one prefix only, PostgreSQL that wants TLS.

The broker is the stack's with other properties; before PostgreSQL stands tls_front.py. Their certificates come from
an authority made for the test.
"""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg
import trustme
from cryptography.hazmat.primitives import serialization
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
)
from psycopg import sql

from stack.kafka import Kafka
from stack.ports import Ports
from stack.postgres import Postgres
from tests.security.tls_front import TlsFront

__all__ = ["PREFIX", "USER", "OwnServers", "acl", "own_servers"]

PREFIX = "acme."
USER = "acme"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnServers:
    """Running servers and what a deployment is told about them."""

    home: Path
    secure_bootstrap: str
    plain_bootstrap: str
    kafka_password: str
    ca: Path
    other_ca: Path
    postgres_port: int
    superuser_url: str
    logins: Mapping[str, str]

    def postgres_url(self, login: str, *, password: str | None = None, ca: Path | None = None) -> str:
        """As one writes it in EARFUL_POSTGRES_URL: verify-full against the own authority."""
        word = quote(self.logins[login] if password is None else password, safe="")
        return (
            f"postgresql://{login}:{word}@127.0.0.1:{self.postgres_port}/earful"
            f"?sslmode=verify-full&sslrootcert={ca or self.ca}"
        )

    def environment(self, triton: str, login: str) -> dict[str, str]:
        """The settings of a worker or command."""
        return {
            "EARFUL_HOME": str(self.home / "none"),
            "EARFUL_KAFKA_BOOTSTRAP_SERVERS": self.secure_bootstrap,
            "EARFUL_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "EARFUL_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "EARFUL_KAFKA_SASL_USERNAME": USER,
            "EARFUL_KAFKA_SASL_PASSWORD": self.kafka_password,
            "EARFUL_KAFKA_SSL_CAFILE": str(self.ca),
            "EARFUL_TOPIC_PREFIX": PREFIX,
            "EARFUL_PARTITIONS": "3",
            "EARFUL_POSTGRES_URL": self.postgres_url(login),
            "EARFUL_TRITON_URL": triton,
            "EARFUL_SESSION_TIMEOUT_SECONDS": "6",
        }


@contextmanager
def own_servers(home: Path) -> Iterator[OwnServers]:
    """Start both, with what an administrator would give Earful and no more; stop them at the end."""
    authority, stranger = trustme.CA(), trustme.CA()
    ca, other_ca = home / "ca.pem", home / "other-ca.pem"
    authority.cert_pem.write_to_path(ca)
    stranger.cert_pem.write_to_path(other_ca)
    certificate = authority.issue_cert("127.0.0.1")
    ports = Ports(home)
    ports.choose("kafka", "kafka_controller", "kafka_secure", "postgres_tls")
    password = secrets.token_urlsafe(12)
    kafka = Kafka(home, ports, properties=_properties(home, ports, certificate), scram=[_scram(password)])
    postgres = Postgres(home, ports)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    try:
        kafka.start()
        postgres.start()
        plain = f"127.0.0.1:{ports['kafka']}"
        _allow(plain)
        with TlsFront(ports["postgres_tls"], ports["postgres"], context):
            yield OwnServers(
                home=home,
                secure_bootstrap=f"127.0.0.1:{ports['kafka_secure']}",
                plain_bootstrap=plain,
                kafka_password=password,
                ca=ca,
                other_ca=other_ca,
                postgres_port=ports["postgres_tls"],
                superuser_url=postgres.url,
                logins=_first_login(postgres.url),
            )
    finally:
        kafka.stop()
        postgres.stop()


def _scram(password: str) -> str:
    return f"SCRAM-SHA-512=[name={USER},password={password}]"


def _properties(home: Path, ports: Ports, certificate: trustme.LeafCert) -> dict[str, str]:
    """One more listener; the plain one stays for the broker itself and the test's administrator."""
    store = home / "kafka.pem"
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), password=None)
    pkcs8 = key.private_bytes(  # Java reads no other form
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    store.write_bytes(pkcs8 + b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    listeners = {
        name: f"127.0.0.1:{ports[port]}" for name, port in (("PLAINTEXT", "kafka"), ("SECURE", "kafka_secure"))
    }
    advertised = ",".join(f"{name}://{place}" for name, place in listeners.items())
    controller = f"CONTROLLER://127.0.0.1:{ports['kafka_controller']}"
    return {
        "listeners": f"{advertised},{controller}",
        "advertised.listeners": f"{advertised},{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.secure.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "listener.name.secure.ssl.keystore.type": "PEM",
        "listener.name.secure.ssl.keystore.location": str(store),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }


def acl(operation: ACLOperation, kind: ResourceType) -> ACL:
    """A right of the deployment's user on what begins with its prefix."""
    return ACL(
        principal=f"User:{USER}",
        host="*",
        operation=operation,
        permission_type=ACLPermissionType.ALLOW,
        resource_pattern=ResourcePattern(kind, PREFIX, ACLResourcePatternType.PREFIXED),
    )


def _allow(plain_bootstrap: str) -> None:
    """docs/own-servers.md, "Least rights": topics and groups that begin with the prefix, nothing else."""
    needed = {
        ResourceType.TOPIC: (
            ACLOperation.CREATE,
            ACLOperation.DESCRIBE,
            ACLOperation.READ,
            ACLOperation.WRITE,
        ),
        ResourceType.GROUP: (ACLOperation.READ,),
    }
    client = KafkaAdminClient(bootstrap_servers=plain_bootstrap)
    try:
        client.create_acls([acl(operation, kind) for kind, operations in needed.items() for operation in operations])
    finally:
        client.close()


def _first_login(superuser_url: str) -> dict[str, str]:
    """Who migrates: no superuser, may create roles and schemas. The other logins are made by it."""
    logins = {name: secrets.token_urlsafe(12) for name in ("acme_migrate", "acme_worker", "acme_analyst")}
    with psycopg.connect(superuser_url, autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE ROLE acme_migrate LOGIN CREATEROLE PASSWORD {}").format(sql.Literal(logins["acme_migrate"]))
        )
        admin.execute("GRANT CREATE ON DATABASE earful TO acme_migrate")
    return logins
