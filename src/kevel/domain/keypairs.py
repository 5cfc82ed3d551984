"""Key pairs: what a public key is, its fingerprint, and new keys where the caller brings none."""

from __future__ import annotations

import base64
import enum
import hashlib
import string
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kevel.domain.errors import Invalid

#: Longest public key that is read.
KEY_CHARACTERS_MAX: Final = 16_384
_RSA_BITS: Final = 2048
_CERTIFICATE_DAYS: Final = 3650
_NAME_CHARACTERS: Final = frozenset(string.ascii_letters + string.digits + "_- ")
#: Those of microversion 2.92.
_MORE_CHARACTERS: Final = _NAME_CHARACTERS | frozenset("@.")


class KeyKind(enum.Enum):
    """For whom a key is: a shell, or Windows' remote management."""

    SSH = "ssh"
    X509 = "x509"


class Keypair(msgspec.Struct, frozen=True, kw_only=True):
    """A key pair's row: the public half. A private one is never kept."""

    #: Kevel's own number of it; 0: not entered yet.
    id: int = 0
    user_id: str
    name: str
    kind: KeyKind
    public_key: str
    fingerprint: str
    created_at: int


class NewKeys(NamedTuple):
    """A pair as texts; without a private half, somebody else has it."""

    public_key: str
    private_key: str | None


def check_name(name: str, *, more: bool) -> None:
    """Raise Invalid for what cannot be a pair's name; `more` allows @ and dots too, as from microversion 2.92 on."""
    allowed = _MORE_CHARACTERS if more else _NAME_CHARACTERS
    if name.strip() != name or not name or not allowed.issuperset(name):
        words = "letters, digits, spaces, underscores, dashes" + (", dots and @" if more else "")
        raise Invalid(f"Keypair data is invalid: a name has only {words}, and no space at either end.")


def take_fingerprint(kind: KeyKind, public_key: str) -> str:
    """The fingerprint that users compare. Raises Invalid for what is no public key of that kind."""
    if len(public_key) > KEY_CHARACTERS_MAX:
        raise Invalid(f"Keypair data is invalid: a public key has at most {KEY_CHARACTERS_MAX} characters.")
    try:
        if kind is KeyKind.X509:
            certificate = x509.load_pem_x509_certificate(public_key.encode())
            return _colons(certificate.fingerprint(hashes.SHA1()))  # noqa: S303 - the fingerprint that clients show
        serialization.load_ssh_public_key(public_key.encode())
        raw = base64.b64decode(public_key.split()[1])
    except (ValueError, UnsupportedAlgorithm, IndexError, UnicodeEncodeError) as error:
        wanted = "a certificate in PEM" if kind is KeyKind.X509 else "a line such as 'ssh-ed25519 AAAA... comment'"
        raise Invalid(f"Keypair data is invalid: failed to read the public key; it has to be {wanted}.") from error
    return _colons(hashlib.md5(raw, usedforsecurity=False).digest())


def _colons(digest: bytes) -> str:
    return ":".join(f"{byte:02x}" for byte in digest)


def draw_keys(kind: KeyKind, user_id: str, at: int) -> NewKeys:
    """A new pair: RSA. Takes a good part of a second of one processor."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    if kind is KeyKind.SSH:
        line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        return NewKeys(
            f"{line.decode()} Generated-by-Kevel", _show_private(key, serialization.PrivateFormat.TraditionalOpenSSL)
        )
    return NewKeys(_make_certificate(key, user_id, at), _show_private(key, serialization.PrivateFormat.PKCS8))


def _show_private(key: rsa.RSAPrivateKey, form: serialization.PrivateFormat) -> str:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def _make_certificate(key: rsa.RSAPrivateKey, user_id: str, at: int) -> str:
    """A certificate that a Windows guest lets in: it names the user, and is for clients."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, user_id[:64])])
    start = datetime.fromtimestamp(at // 1_000_000, UTC)
    upn = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), _utf8(f"{user_id[:100]}@localhost"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=_CERTIFICATE_DAYS))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([upn]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _utf8(text: str) -> bytes:
    """The text as DER has it: a UTF8String of less than 128 bytes."""
    raw = text.encode()
    return bytes((0x0C, len(raw))) + raw
