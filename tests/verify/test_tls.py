"""What each port speaks: TLS, its versions and ciphers, its certificate, and whose certificates it takes."""

from __future__ import annotations

import datetime
import socket
import ssl
import struct
import warnings
from contextlib import ExitStack

import psycopg
import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .conftest import refusal

POSTGRESQL = ["postgresql", "pgbouncer"]  # the contract's two ways
SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # PostgreSQL's protocol asks first, in clear


@pytest.fixture
def handshake(endpoint, tunnel):
    """A TLS connection to a service: handshake(context)."""
    app, server, service = endpoint
    with ExitStack() as stack:

        def shake(context):
            local = tunnel(app, server, server.port(service))
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", local), timeout=10))
            if service in (*POSTGRESQL, "haproxy"):
                raw.sendall(SSL_REQUEST)
                assert raw.recv(1) == b"S"
            return stack.enter_context(context.wrap_socket(raw, server_hostname=server.address))

        yield shake


@pytest.fixture
def context(subject):
    return ssl.create_default_context(cafile=subject.ca)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """Paths of a certificate that signs itself, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stranger")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("stranger")
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (folder / "key.pem").chmod(0o600)
    return str(folder / "cert.pem"), str(folder / "key.pem")


def test_certificate_holds_the_address_for_30_days(handshake, context, saw):
    ends = ssl.cert_time_to_seconds(handshake(context).getpeercert()["notAfter"])
    left = datetime.datetime.fromtimestamp(ends, datetime.UTC) - datetime.datetime.now(datetime.UTC)
    date = datetime.datetime.fromtimestamp(ends, datetime.UTC).date()
    saw(f"ends {date}, in over 30 days", f"ends {date}, in {'over 30' if left.days > 30 else left.days} days")


def test_tls_1_3_is_spoken(handshake, context, saw):
    saw("TLSv1.3", handshake(context).version())


def test_tls_1_1_is_refused(handshake, context, saw):
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")  # else OpenSSL does not even offer it
    said = refusal(ssl.SSLError, lambda: handshake(context))
    saw("refused", "refused" if "TLSV1_ALERT_PROTOCOL_VERSION" in said else said)


def test_tls_1_2_is_spoken_by_authenticated_ciphers_alone(handshake, context, saw):
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    good = handshake(context).cipher()[0]
    context.set_ciphers("ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA")
    said = refusal(ssl.SSLError, lambda: handshake(context))
    saw((True, "refused"), ("GCM" in good, "refused" if "HANDSHAKE_FAILURE" in said else said))


@pytest.mark.parametrize("service", POSTGRESQL)
def test_foreign_authority_is_not_trusted(connect, stranger, saw, service):
    said = refusal(psycopg.OperationalError, lambda: connect("chat_app", service, sslrootcert=stranger[0]))
    saw("refused", "refused" if "certificate verify failed" in said else said)


@pytest.mark.parametrize("purpose", ["tokens", "presence"])
def test_foreign_authority_is_not_trusted_for_redis(redis_connect, stranger, saw, purpose):
    client = redis_connect(purpose, ssl_ca_certs=stranger[0])
    said = refusal(redis.exceptions.ConnectionError, client.ping)
    saw("refused", "refused" if "certificate verify failed" in said.lower() else said)


def test_client_certificate_of_a_foreign_authority_is_refused(connect, stranger, saw):
    certificate, key = stranger
    said = refusal(
        psycopg.OperationalError,
        lambda: connect("chat_app", "postgresql", sslcert=certificate, sslkey=key),
    )
    saw("refused", "refused" if "unknown ca" in said else said)
