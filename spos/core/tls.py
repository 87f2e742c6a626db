"""Certificates by which a Dask scheduler, its workers and a search know each other, and keep others out."""

from __future__ import annotations

import contextlib
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Tuple

from spos.core.errors import InputError
from spos.core.flags import as_json, flag

TLS, TCP = "tls", "tcp"  # protocols, as addresses of Dask begin
_REFUSAL_SECONDS = 5  # a refusal comes within one round trip


@dataclass(frozen=True)
class TlsOptions:
    """Who may take part in a search by Dask: certificates, all three flags or none."""

    tls_ca_file: str = flag("", "certificates (PEM) that those of all others are signed by")
    tls_cert: str = flag("", "certificate (PEM) of this side")
    tls_key: str = flag("", "its private key (PEM)")

    @property
    def is_given(self) -> bool:
        return any(self.files.values())

    @property
    def files(self) -> Mapping[str, str]:
        """File names by flag."""
        return {f"--{name.replace('_', '-')}": value for name, value in as_json(self).items()}

    @property
    def protocol(self) -> str:
        return TLS if self.is_given else TCP

    @property
    def arguments(self) -> Tuple[str, ...]:
        """The flags, as Dask's commands and this project's have them."""
        return tuple(word for name, value in self.files.items() if value for word in (name, value))

    def check(self, address: str = "") -> None:
        """Raise InputError if a flag or a file is missing, the files do not belong together, or the address is another
        protocol's."""
        protocol = address.partition("://")[0] if "://" in address else TCP
        if address and (protocol == TLS) != self.is_given:
            needed = f"{TLS}:// needs {', '.join(self.files)}" if protocol == TLS else f"certificates need {TLS}://"
            raise InputError(f"--scheduler {address}: {needed}")
        if not self.is_given:
            return
        for name, value in self.files.items():
            if not value:
                raise InputError(f"{name} is missing: TLS needs {', '.join(self.files)}")
            if not Path(value).is_file():
                raise InputError(f"{name} {value} does not exist")
        self._context()

    def security(self) -> Any:
        """What Dask's clients are given; None without certificates."""
        if not self.is_given:
            return None
        from distributed import Security

        return Security(
            tls_ca_file=self.tls_ca_file,
            tls_client_cert=self.tls_cert,
            tls_client_key=self.tls_key,
            require_encryption=True,
        )

    def greet(self, host: Tuple[str, int], seconds: float) -> None:
        """Find out whether the two sides know each other. Raises: OSError with the reason if they do not."""
        with socket.create_connection(host, seconds) as plain, self._context().wrap_socket(plain) as connection:
            connection.settimeout(_REFUSAL_SECONDS)
            with contextlib.suppress(socket.timeout):  # it waits for our first word
                connection.recv(1)  # in TLS 1.3 a certificate is refused after the handshake

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=self.tls_ca_file)
            context.check_hostname = False  # Dask does not either: whoever the authority signed takes part
            context.load_cert_chain(self.tls_cert, self.tls_key)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            raise InputError(f"{' '.join(self.arguments)}: no certificates that belong together ({error})") from None
        return context
