"""Kevel's own certificate authority: it signs agents' certificates, the control plane's and those of storage's exports.

Keys are made where they are used: an agent's never leaves its host, the control plane's own lives in memory only.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kevel.domain.agents import CONTROL_NAME, check_host_name
from kevel.domain.errors import Invalid, SetupError
from kevel.runtime.ports import Clock

AUTHORITY_DAYS: Final = 3650
#: The control plane's is made at each start; a process that runs for longer than that has missed many upgrades.
CONTROL_DAYS: Final = 1825
#: An agent asks for a new one when two thirds of it are over; one that was off for longer joins anew.
AGENT_DAYS: Final = 90
#: Clocks differ, and a certificate is good from a time before it was made.
BACKDATED: Final = timedelta(days=1)
_NAME: Final = "Kevel agents"


class IssuedCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's certificate."""

    serial: str
    #: PEM.
    certificate: str
    expires_at: int


def make_authority(clock: Clock) -> bytes:
    """A new authority: its private key and its certificate in one PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    now = _time(clock)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key_pem(key) + certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The private key as it is kept in a private file."""
    kind = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption())


def _time(clock: Clock) -> datetime:
    return datetime.fromtimestamp(clock.now_us() // 1_000_000, UTC)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


class Authority:
    """Signs. Raises SetupError for a PEM that `make_authority` did not make."""

    def __init__(self, pem: bytes, clock: Clock) -> None:
        try:
            key = serialization.load_pem_private_key(pem, None)
            self._certificate = x509.load_pem_x509_certificate(pem)
        except ValueError as error:
            raise SetupError("The agents' certificate authority is damaged; restore its file.") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise SetupError("The agents' certificate authority is damaged; restore its file.")
        self._key = key
        self._clock = clock
        #: PEM.
        self.certificate = self._certificate.public_bytes(serialization.Encoding.PEM).decode()
        #: The hash by which an agent knows it.
        self.digest = hashlib.sha256(self._certificate.public_bytes(serialization.Encoding.DER)).hexdigest()

    def make_control(self) -> bytes:
        """A key and a certificate for the control plane's listener, in one PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(CONTROL_NAME, key.public_key(), ExtendedKeyUsageOID.SERVER_AUTH, CONTROL_DAYS)
        return key_pem(key) + certificate.public_bytes(serialization.Encoding.PEM)

    def make_pair(self, name: str, use: x509.ObjectIdentifier) -> tuple[bytes, bytes]:
        """A key and a certificate for storage's exports, in PEM: good for as long as this authority.

        A guest shows its host's whenever its export's server comes back, however long it has been running. It lets
        nobody in as an agent: of those the control plane knows each certificate's serial number.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        left = self._certificate.not_valid_after_utc - _time(self._clock)
        certificate = self._sign(name, key.public_key(), use, left.days)
        return key_pem(key), certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, host: str, request: x509.CertificateSigningRequest) -> IssuedCertificate:
        """A certificate for the host's agent, for the key that the request proves to have."""
        key = request.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):  # `read_request` let no other pass
            raise Invalid("The key of a certificate request has to be one of the curve P-256.")
        certificate = self._sign(check_host_name(host), key, ExtendedKeyUsageOID.CLIENT_AUTH, AGENT_DAYS)
        return IssuedCertificate(
            serial=f"{certificate.serial_number:x}",
            certificate=certificate.public_bytes(serialization.Encoding.PEM).decode(),
            expires_at=int(certificate.not_valid_after_utc.timestamp()) * 1_000_000,
        )

    def _sign(
        self, name: str, key: ec.EllipticCurvePublicKey, use: x509.ObjectIdentifier, days: int
    ) -> x509.Certificate:
        now = _time(self._clock)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(identifier, critical=False)
            .sign(self._key, hashes.SHA256())
        )


def read_request(pem: str) -> x509.CertificateSigningRequest:
    """The signing request, which proves that whoever made it has the key. Its names mean nothing. Raises Invalid."""
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        key = request.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise Invalid("The key of a certificate request has to be one of the curve P-256.")
        if not request.is_signature_valid:
            raise Invalid("The certificate request is not signed with its own key.")
    except (ValueError, InvalidSignature) as error:
        raise Invalid("This is no certificate request in PEM.") from error
    return request


def key_digest(request: x509.CertificateSigningRequest) -> str:
    """The hash of the request's key."""
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(request.public_key().public_bytes(serialization.Encoding.DER, info)).hexdigest()


def read_serial(certificate_der: bytes) -> str:
    """The serial number of a certificate that TLS has verified."""
    return f"{x509.load_der_x509_certificate(certificate_der).serial_number:x}"
