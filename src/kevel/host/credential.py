"""The agent's own key and certificate: made on the host, kept in its data directory, renewed in time."""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kevel.domain.agents import (
    CONTROL_NAME,
    PROTOCOL,
    PROTOCOL_HEADER,
    ControlSilent,
    Credential,
    JoinRequest,
    JoinToken,
)
from kevel.domain.errors import SetupError
from kevel.runtime.ports import Clock
from kevel.runtime.tls import load_chain

JOIN_TIMEOUT_S: Final = 30.0
#: The part of a certificate's life that is over when the next one is asked for.
RENEW_AT: Final = 2 / 3
HEADERS: Final = {PROTOCOL_HEADER: str(PROTOCOL)}
#: How each request is sent: whatever the address, the control plane has to prove that it is Kevel's.
NAMED: Final = {"sni_hostname": CONTROL_NAME}


class AgentKey:
    """A private key: a fresh one, or the one of that PEM. Raises SetupError."""

    def __init__(self, pem: bytes | None = None) -> None:
        if pem is None:
            self._key = ec.generate_private_key(ec.SECP256R1())
            return
        try:
            key = serialization.load_pem_private_key(pem, None)
        except ValueError as error:
            raise SetupError("The agent's key is damaged; remove it from its directory and join anew.") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise SetupError("The agent's key is damaged; remove it from its directory and join anew.")
        self._key = key

    @property
    def pem(self) -> bytes:
        """The private key, for the host's own file."""
        kind = serialization.PrivateFormat.PKCS8
        return self._key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption())

    @property
    def request(self) -> str:
        """A signing request, PEM. The name in it means nothing: the control plane knows whom it lets in."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "agent")])
        made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self._key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM).decode()


class CredentialFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent keeps: everything that it needs to be heard. It never shows itself."""

    host: str
    control: str
    key: str
    certificate: str
    authority: str

    def __repr__(self) -> str:
        return f"CredentialFile(host={self.host!r})"

    __str__ = __repr__

    def renewed(self, key: AgentKey, credential: Credential) -> CredentialFile:
        """The same with the next key and certificate."""
        return msgspec.structs.replace(
            self, key=key.pem.decode(), certificate=credential.certificate, authority=credential.authority
        )

    def is_due(self, clock: Clock) -> bool:
        """Is it time for the next one?"""
        certificate = x509.load_pem_x509_certificate(self.certificate.encode())
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return datetime.fromtimestamp(clock.now_us() / 1e6, UTC) > begin + (end - begin) * RENEW_AT

    def make_context(self) -> ssl.SSLContext:
        """TLS that shows this certificate and believes Kevel's authority alone."""
        context = _trusting(self.authority)
        load_chain(context, (self.key + self.certificate).encode())
        return context


def _trusting(authority: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=authority)
    return context


async def join_control(control: str, token: JoinToken, key: AgentKey) -> CredentialFile:
    """A first certificate for that key. Raises SetupError when the token or the control plane is not the right one.

    The key's first bytes on the wire go to nobody but the control plane that the token names: its authority is read
    without trust, and is the right one only if its hash is the token's.
    """
    untrusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    untrusted.check_hostname = False
    untrusted.verify_mode = ssl.CERT_NONE
    authority = str((await _post(control, untrusted, "authority", None))["authority"])
    try:
        der = x509.load_pem_x509_certificate(authority.encode()).public_bytes(serialization.Encoding.DER)
    except ValueError as error:
        raise SetupError(f"{control} is no Kevel that listens to agents.") from error
    if hashlib.sha256(der).hexdigest() != token.authority:
        raise SetupError(f"{control} is not the Kevel that made this join token; nothing was sent to it.")
    asked = JoinRequest(secret=token.secret, request=key.request)
    answer = await _post(control, _trusting(authority), "join", asked)
    given = msgspec.convert(answer, Credential)
    return CredentialFile(
        host=given.host,
        control=control,
        key=key.pem.decode(),
        certificate=given.certificate,
        authority=given.authority,
    )


async def _post(control: str, context: ssl.SSLContext, verb: str, body: Any) -> Any:
    content = b"" if body is None else msgspec.json.encode(body)
    try:
        async with httpx.AsyncClient(verify=context, trust_env=False, timeout=JOIN_TIMEOUT_S) as http:
            url = f"https://{control}/agent/v1/{verb}"
            answer = await http.post(url, content=content, headers=HEADERS, extensions=NAMED)
    except httpx.TransportError as error:
        raise ControlSilent(f"The control plane at {control} does not answer ({type(error).__name__}).") from error
    if answer.is_error:
        raise SetupError(f"The control plane at {control} refused: {read_refusal(answer)[1]}")
    return msgspec.json.decode(answer.content)


def read_refusal(answer: httpx.Response) -> tuple[str, str]:
    """The code and the message of a refused request."""
    try:
        error = msgspec.json.decode(answer.content)["error"]
        return str(error["code"]), str(error["message"])[:500]
    except (msgspec.DecodeError, KeyError, TypeError):
        return "", f"HTTP status {answer.status_code}."
