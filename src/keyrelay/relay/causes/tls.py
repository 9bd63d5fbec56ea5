"""Why there is no TLS, or none that can be trusted."""

from __future__ import annotations

from keyrelay.profile.model import TransportSecurity
from keyrelay.relay.causes.model import ADDRESS, SHORT_NAME, Cause

_IMPLICIT = (TransportSecurity.IMPLICIT_TLS,)
_USE_SSL_OFF = (TransportSecurity.STARTTLS_WHEN_OFFERED,)

TLS: tuple[Cause, ...] = (
    # --- The mode ---
    Cause(
        id="port-speaks-starttls",
        stages=("tls", "greeting"),
        kinds=("not_tls", "closed", "timeout", "handshake"),
        looks=("starttls",),
        securities=_IMPLICIT,
        sentence="Port {port} of {host} begins in clear text and then offers STARTTLS; keyrelay began with TLS, as "
        "UseSSL on port {port} says.",
        remedy="[Set Port to {better_port} and leave UseSSL on. ]Use the relay's STARTTLS port, most often 587, with "
        "UseSSL on; or ask its administrator to make port {port} speak TLS from the first byte (Postfix: "
        "smtpd_tls_wrappermode=yes).",
        more="RFC 8314 section 3.3",
    ),
    Cause(
        id="port-speaks-clear-text",
        stages=("tls", "greeting"),
        kinds=("not_tls", "closed", "timeout", "handshake"),
        looks=("plain",),
        securities=_IMPLICIT,
        sentence="Port {port} of {host} speaks clear text and offers no TLS at all.",
        remedy="[Port {better_port} has TLS: set Port to {better_port} and leave UseSSL on. ]Ask the relay's "
        "administrator for a port with TLS. Without sign-in, port 25 with UseSSL off works in clear text.",
    ),
    Cause(
        id="tls-to-clear-port",
        stages=("tls", "greeting"),
        kinds=("not_tls",),
        securities=_IMPLICIT,
        sentence="The answer of {host} on port {port} is no TLS. Most often the port begins in clear text and wants "
        "STARTTLS.",
        remedy="Set Port to the relay's STARTTLS port, most often 587, and leave UseSSL on.[ Port {better_port} "
        "works.]",
        more="RFC 8314 section 3.3",
    ),
    Cause(
        id="tls-after-starttls-garbled",
        stages=("tls",),
        kinds=("not_tls",),
        sentence="{host} agreed to STARTTLS and then did not speak TLS. Most often a firewall or virus scanner that "
        "looks into mail stands in between.",
        remedy="Ask your network team to switch off SMTP inspection for connections to {host} on port {port}, or use "
        "port 465 with UseSSL on if the relay has it.",
    ),
    Cause(
        id="port-465-closed-on-tls",
        stages=("tls",),
        kinds=("closed",),
        securities=_IMPLICIT,
        sentence="{host} closed port {port} when keyrelay began TLS. Most often the port is no TLS port, or the relay "
        "does not take connections from this machine.",
        remedy="Try Port 587 with UseSSL on. Otherwise ask the relay's administrator whether this machine's address "
        "is allowed, and what the log says.",
        retry=True,
    ),
    # --- STARTTLS ---
    Cause(
        id="starttls-masked",
        stages=("tls",),
        kinds=("not_offered",),
        pattern=r"x{6,}|\*{4,}",
        sentence="Something between here and {host} has blotted out words of the relay's answer, STARTTLS most likely "
        "among them. Firewalls with SMTP inspection do that.",
        remedy="Ask your network team to switch off SMTP inspection towards {host} (Cisco: inspect esmtp; others: "
        "SMTP fixup, mail protection), or use port 465 with UseSSL on if the relay has it.",
    ),
    Cause(
        id="starttls-not-offered",
        stages=("tls",),
        kinds=("not_offered",),
        sentence="UseSSL is on, and {host} offers no STARTTLS on port {port}; keyrelay does not go on in clear text.",
        remedy="[Port {better_port} has TLS: set Port to {better_port}. ]Use a port with TLS (587 or 465), or ask the "
        "relay's administrator to install a certificate. For a relay without sign-in inside your network, UseSSL off "
        "sends in clear text. If other machines see STARTTLS there, a firewall in between removes it.",
        more="RFC 3207",
    ),
    Cause(
        id="starttls-first",
        stages=("hello", "auth", "sender", "recipient", "data"),
        kinds=("reply",),
        codes=(5,),
        pattern=r"starttls|(ssl|tls).{0,20}required|(requires?|must use|needs?) (ssl|tls)",
        securities=_USE_SSL_OFF,
        sentence="{host} wants an encrypted connection before anything else.",
        remedy="Switch UseSSL on (Port 587 for STARTTLS, 465 for TLS from the first byte).[ Port {better_port} works.]",
        more="RFC 3207 section 4",
    ),
    Cause(
        id="encryption-required-for-sign-in",
        stages=("auth",),
        kinds=("reply",),
        codes=(538,),
        securities=_USE_SSL_OFF,
        sentence="{host} takes a sign-in only over an encrypted connection.",
        remedy="Switch UseSSL on (Port 587 for STARTTLS, 465 for TLS from the first byte).",
        more="RFC 4954 section 6",
    ),
    Cause(
        id="starttls-unavailable",
        stages=("tls",),
        kinds=("reply",),
        codes=(4,),
        sentence="{host} offers STARTTLS and says that it cannot do it now. Most often its certificate or key cannot "
        "be read.",
        remedy="Ask the relay's administrator to look at its log: the certificate file, its key, or their permissions "
        "(Postfix: smtpd_tls_chain_files; Exchange: the certificate bound to SMTP).",
        retry=True,
        more="RFC 3207 section 4",
    ),
    Cause(
        id="starttls-refused",
        stages=("tls",),
        kinds=("reply",),
        sentence="{host} offers STARTTLS and then refuses the command.",
        remedy="Use port 465 with UseSSL on if the relay has it, or ask its administrator to look at its log. A "
        "firewall that looks into mail can cause this too.",
        more="RFC 3207 section 4",
    ),
    Cause(
        id="starttls-injected",
        stages=("tls",),
        kinds=("injected",),
        sentence="Clear text came where TLS had to begin. Somebody between here and {host} may be slipping commands "
        "into the connection, or the relay has a known fault.",
        remedy="Do not switch TLS off. Use port 465 with UseSSL on, update the relay's mail software, and have your "
        "network team look at what stands in between.",
        more="RFC 3207 section 6; CVE-2011-0411",
    ),
    # --- The certificate ---
    Cause(
        id="certificate-expired",
        stages=("tls",),
        kinds=("expired",),
        sentence="A certificate of {host} has expired[, {days} ago].",
        remedy="Ask the relay's administrator to renew it and to restart the mail service: a renewed file that nobody "
        "has loaded is the usual reason. If it is valid by its dates, the clock of this machine is wrong.",
    ),
    Cause(
        id="certificate-not-yet-valid",
        stages=("tls",),
        kinds=("not_yet_valid",),
        sentence="The certificate of {host} is not valid yet[: it begins in {days}]. Most often the clock of this "
        "machine is slow.",
        remedy="Check date and time here (timedatectl). If they are right, the relay's administrator must install a "
        "certificate that is valid today.",
    ),
    Cause(
        id="certificate-for-address",
        stages=("tls",),
        kinds=("name_mismatch",),
        host=ADDRESS,
        sentence="Host is the address {host}, and the certificate is for names[: {names}].",
        remedy="Give as Host a name that stands on the certificate[, such as one of: {names}]. It must lead to this "
        "address in your DNS.",
    ),
    Cause(
        id="certificate-for-longer-name",
        stages=("tls",),
        kinds=("name_mismatch",),
        host=SHORT_NAME,
        sentence="Host is the short name {host}, and the certificate is for other names[: {names}].",
        remedy="Give as Host the relay's whole name as it stands on the certificate.",
    ),
    Cause(
        id="certificate-for-other-name",
        stages=("tls",),
        kinds=("name_mismatch",),
        sentence="The certificate that {host} shows is not for this name[, but for: {names}].",
        remedy="Give as Host a name that stands on the certificate, or have {host} added to it as a subject "
        "alternative name: an alias in DNS is not enough.",
        more="RFC 9525 section 6",
    ),
    Cause(
        id="certificate-self-signed",
        stages=("tls",),
        kinds=("self_signed",),
        sentence="{host} shows a certificate that it has signed itself, so that nobody vouches for it.",
        remedy="Best is a certificate from an authority. Or fetch this one from the relay's administrator by a way "
        "you trust, save it as a PEM file, and name the file in KEYRELAY_CA_BUNDLE.",
    ),
    Cause(
        id="certificate-authority-private",
        stages=("tls",),
        kinds=("unknown_issuer",),
        pattern=r"self.signed certificate in certificate chain",
        sentence="The certificate of {host} leads to an authority that keyrelay does not trust[ ({issuer})]. Most "
        "often it is your organisation's own.",
        remedy="Save that authority's root certificate as a PEM file, name the file in KEYRELAY_CA_BUNDLE and restart "
        "keyrelay. If it is a security product's authority, that product is reading the connection.",
    ),
    Cause(
        id="certificate-chain-incomplete",
        stages=("tls",),
        kinds=("unknown_issuer",),
        facts=(("certificates", 1),),
        sentence="{host} shows only its own certificate, without the one of the authority that issued it[ ({issuer})].",
        remedy="With a public authority: have the relay's administrator install the full chain (fullchain.pem, not "
        "cert.pem). With your own: name a PEM file with its root certificate in KEYRELAY_CA_BUNDLE and restart "
        "keyrelay.",
    ),
    Cause(
        id="certificate-issuer-unknown",
        stages=("tls",),
        kinds=("unknown_issuer",),
        sentence="keyrelay does not trust the authority that issued the certificate of {host}[ ({issuer})].",
        remedy="If it is your own authority, save its root certificate as a PEM file, name the file in "
        "KEYRELAY_CA_BUNDLE and restart keyrelay. If it is a public one, the relay leaves out an intermediate "
        "certificate, or the system's list of authorities here is old (package ca-certificates).",
    ),
    Cause(
        id="tls-too-old",
        stages=("tls",),
        kinds=("weak",),
        pattern=r"protocol|version",
        sentence="{host} and keyrelay have no TLS version in common; keyrelay speaks TLS 1.2 and 1.3.",
        remedy="Have the relay's TLS brought up to date: at least TLS 1.2 (Windows Server: SChannel settings; "
        "Postfix: smtpd_tls_protocols).",
        more="RFC 8996",
    ),
    Cause(
        id="tls-too-weak",
        stages=("tls",),
        kinds=("weak",),
        sentence="The key, signature or parameters of {host} are too weak for today's TLS[: {detail}].",
        remedy="Have the relay use a certificate with RSA of 2048 bits or more (or ECDSA), signed with SHA-256, and "
        "no Diffie-Hellman parameters below 2048 bits.",
    ),
    Cause(
        id="client-certificate-wanted",
        stages=("tls", "greeting", "hello", "auth", "sender", "recipient", "data"),
        kinds=("client_certificate",),
        pattern=r"required",
        sentence="{host} wants a certificate from keyrelay, and got none.",
        remedy="Name the PEM files of a certificate that the relay accepts, and its key, in "
        "KEYRELAY_RELAY_CLIENT_CERT and KEYRELAY_RELAY_CLIENT_KEY, and restart keyrelay.",
    ),
    Cause(
        id="client-certificate-refused",
        stages=("tls", "greeting", "hello", "auth", "sender", "recipient", "data"),
        kinds=("client_certificate",),
        sentence="{host} wants a certificate from keyrelay, and does not accept what it got[: {detail}].",
        remedy="Check the certificate in KEYRELAY_RELAY_CLIENT_CERT: is it still valid, from an authority that the "
        "relay trusts, and is its chain in the file? The relay's log tells which it is.",
    ),
    Cause(
        id="certificate-revoked",
        stages=("tls",),
        kinds=("certificate",),
        pattern=r"revoked",
        sentence="The certificate of {host} has been revoked by its authority.",
        remedy="Do not go around it. Have the relay's administrator install a new certificate.",
    ),
    Cause(
        id="certificate-refused",
        stages=("tls",),
        kinds=("certificate",),
        sentence="The certificate of {host} cannot be trusted[: {detail}].",
        remedy="Have the relay's administrator look at the certificate: its purpose must include server "
        "authentication, and its chain must be in order.",
    ),
    Cause(
        id="tls-no-common-cipher",
        stages=("tls",),
        kinds=("handshake",),
        pattern=r"handshake failure|no shared cipher|insufficient security|illegal parameter",
        sentence="{host} and keyrelay could not agree on how to encrypt[: {detail}].",
        remedy="Have the relay's ciphers brought up to date (ECDHE with AES-GCM is enough). Some relays answer like "
        "this too when they want a client certificate: see KEYRELAY_RELAY_CLIENT_CERT.",
    ),
    Cause(
        id="tls-name-unknown",
        stages=("tls",),
        kinds=("handshake",),
        pattern=r"unrecognized name",
        sentence="The relay does not know itself by the name {host}.",
        remedy="Give as Host the name under which the relay is set up, as it stands on its certificate.",
        more="RFC 6066 section 3",
    ),
    Cause(
        id="tls-timed-out",
        stages=("tls",),
        kinds=("timeout",),
        sentence="{host} did not finish the TLS handshake[ within {seconds} seconds].",
        remedy="Most often a firewall drops large packets (look at the MTU, above all over VPN), or the port is not "
        "the one UseSSL expects: 465 for TLS from the first byte, 587 for STARTTLS.",
        retry=True,
    ),
    Cause(
        id="tls-closed",
        stages=("tls",),
        kinds=("closed",),
        sentence="{host} closed the connection in the middle of the TLS handshake.",
        remedy="Look at the relay's log for this moment. Most often its TLS is too old for keyrelay (TLS 1.2 is the "
        "least), or a firewall in between cuts TLS.",
        retry=True,
    ),
    Cause(
        id="tls-failed",
        stages=("tls",),
        kinds=("handshake",),
        sentence="The TLS handshake with {host} on port {port} failed[: {detail}].",
        remedy="Look at the relay's log for this moment, and check that Port and UseSSL belong together: 465 for TLS "
        "from the first byte, 587 for STARTTLS.",
    ),
)
