"""A case for every cause of the catalogue: what was seen, and where. Replies are as real servers write them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from keyrelay.profile.model import TransportSecurity
from keyrelay.relay.causes import Surroundings
from keyrelay.relay.model import Evidence, Kind, Reply, Stage

IMPLICIT = TransportSecurity.IMPLICIT_TLS
REQUIRED = TransportSecurity.STARTTLS_REQUIRED
OFFERED = TransportSecurity.STARTTLS_WHEN_OFFERED

RELAY = Surroundings(
    host="smtp.example.org",
    port=587,
    security=REQUIRED,
    sign_in="basic",
    sender="pki@example.org",
    recipient="admin@example.net",
    token_endpoint="https://login.example.org/tenant/oauth2/v2.0/token",
)
ANONYMOUS = replace(RELAY, port=25, security=OFFERED, sign_in="anonymous", token_endpoint=None)
ON_465 = replace(RELAY, port=465, security=IMPLICIT)
IN_CLEAR_TEXT = replace(RELAY, security=OFFERED)
OAUTH = replace(RELAY, host="smtp.office365.com", sign_in="oauth_client_credentials")
GMAIL = replace(RELAY, host="smtp.gmail.com")
SES = replace(RELAY, host="email-smtp.us-east-1.amazonaws.com")
SENDGRID = replace(RELAY, host="smtp.sendgrid.net")


@dataclass(frozen=True)
class Example:
    cause: str
    evidence: Evidence
    around: Surroundings = RELAY


def seen(cause: str, stage: Stage, kind: Kind, detail: str = "", around: Surroundings = RELAY, **facts: Any) -> Example:
    return Example(cause, Evidence(stage, kind, detail=detail, facts=facts), around)


def said(
    cause: str, stage: Stage, reply: str, around: Surroundings = RELAY, *, detail: str = "", **facts: Any
) -> Example:
    """A reply as it is on the wire, with a line break between its lines."""
    return Example(cause, Evidence(stage, "reply", reply_of(reply), detail, facts), around)


def reply_of(text: str) -> Reply:
    lines = text.split("\n")
    return Reply(int(lines[0][:3]), tuple(line[4:] for line in lines))


def token(cause: str, status: int, detail: str, **facts: Any) -> Example:
    return seen(cause, "token", "status", detail, OAUTH, status=status, **facts)


def aadsts(cause: str, error: str, number: int, description: str) -> Example:
    said_so = f"AADSTS{number}: {description}"
    return token(cause, 400, f"{error} AADSTS{number}", error=error, error_description=said_so)


REACHING = [
    seen("host-name-short", "resolve", "name_unknown", around=replace(RELAY, host="mailhub")),
    seen("host-name-unknown", "resolve", "name_unknown"),
    seen("host-without-address", "resolve", "no_address"),
    seen("dns-unavailable", "resolve", "dns_unavailable"),
    seen("dns-unavailable", "resolve", "timeout"),
    seen("name-waits-for-others", "resolve", "dns_busy"),
    seen("microsoft-port-465", "connect", "timeout", around=replace(OAUTH, port=465, security=IMPLICIT)),
    seen("port-25-blocked", "connect", "timeout", around=ANONYMOUS),
    seen("connect-timed-out", "connect", "timeout"),
    seen("connect-timed-out", "connect", "timeout", seconds=8.0),
    seen("connect-timed-out", "connect", "timeout", around=replace(ON_465, better_port=587)),
    seen("connection-refused-loopback", "connect", "refused", around=replace(RELAY, host="127.0.0.1")),
    seen("connection-refused-loopback", "connect", "refused", around=replace(RELAY, host="localhost")),
    seen("connection-refused", "connect", "refused"),
    seen("connection-refused", "connect", "refused", around=replace(RELAY, better_port=465)),
    seen("host-unreachable", "connect", "unreachable"),
    seen("connection-forbidden", "connect", "forbidden"),
    seen("connection-reset", "connect", "closed"),
    seen(
        "port-speaks-tls-at-once",
        "greeting",
        "timeout",
        around=replace(RELAY, port=465, security=OFFERED, look="implicit-tls"),
    ),
    seen("port-wants-implicit-tls", "greeting", "timeout", around=replace(RELAY, port=2465, look="implicit-tls")),
    seen(
        "port-wants-implicit-tls",
        "greeting",
        "closed",
        around=replace(RELAY, port=2465, look="implicit-tls", better_port=587),
    ),
    seen("greeting-in-tls", "greeting", "not_smtp", "TLS"),
    seen("port-465-silent", "greeting", "timeout", around=replace(RELAY, port=465, security=OFFERED)),
    seen("web-server", "greeting", "not_smtp", "HTTP", replace(RELAY, port=443)),
    seen("ssh-server", "greeting", "not_smtp", "SSH", replace(RELAY, port=22)),
    seen("mailbox-server", "greeting", "not_smtp", "IMAP", replace(RELAY, port=143)),
    seen("mailbox-server", "greeting", "not_smtp", "POP3", replace(RELAY, port=110)),
    said("ftp-server", "hello", "530 Please login with USER and PASS.", replace(RELAY, port=21)),
    seen("not-a-mail-server", "greeting", "not_smtp", "no service that is known"),
    seen("greeting-late", "greeting", "timeout"),
    seen("greeting-late", "greeting", "timeout", seconds=15.0),
    seen("greeting-closed", "greeting", "closed"),
]

IN_TLS = [
    seen("port-speaks-starttls", "tls", "not_tls", "SMTP in the clear", replace(ON_465, look="starttls")),
    seen("port-speaks-starttls", "tls", "closed", "", replace(ON_465, look="starttls", better_port=587)),
    seen("port-speaks-clear-text", "tls", "not_tls", "wrong version number", replace(ON_465, look="plain")),
    seen("tls-to-clear-port", "tls", "not_tls", "wrong version number", ON_465),
    seen("tls-after-starttls-garbled", "tls", "not_tls", "wrong version number"),
    seen("port-465-closed-on-tls", "tls", "closed", "unexpected eof while reading", ON_465),
    seen("starttls-masked", "tls", "not_offered", "STARTTLS", offered=["8BITMIME", "PIPELINING", "XXXXXXXA"]),
    seen("starttls-not-offered", "tls", "not_offered", "STARTTLS", offered=["8BITMIME", "PIPELINING"]),
    seen("starttls-not-offered", "tls", "not_offered", "STARTTLS", replace(RELAY, port=25, better_port=465)),
    said("starttls-first", "sender", "530 5.7.0 Must issue a STARTTLS command first", ANONYMOUS),
    said("starttls-first", "auth", "530 A SSL/TLS-connection is required for authentication.", IN_CLEAR_TEXT),
    said("encryption-required-for-sign-in", "auth", "538 5.7.11 Encryption needed for this mechanism", IN_CLEAR_TEXT),
    said("starttls-unavailable", "tls", "454 4.7.0 TLS not available due to local problem"),
    said("starttls-refused", "tls", "502 5.5.1 Error: command not implemented"),
    seen("starttls-injected", "tls", "injected", "SMTP in the clear"),
    seen("certificate-expired", "tls", "expired", "certificate has expired", days=12),
    seen("certificate-expired", "tls", "expired", "certificate has expired"),
    seen("certificate-not-yet-valid", "tls", "not_yet_valid", "certificate is not yet valid", days=1),
    seen(
        "certificate-for-address", "tls", "name_mismatch", "", replace(RELAY, host="192.0.2.25"), names=["mail.x.org"]
    ),
    seen("certificate-for-address", "tls", "name_mismatch", "", replace(RELAY, host="2001:db8::25")),
    seen("certificate-for-longer-name", "tls", "name_mismatch", "", replace(RELAY, host="mailhub")),
    seen("certificate-for-other-name", "tls", "name_mismatch", names=["mx1.example.org", "mx2.example.org"]),
    seen("certificate-self-signed", "tls", "self_signed", "self-signed certificate"),
    seen("certificate-authority-private", "tls", "unknown_issuer", "self-signed certificate in certificate chain"),
    seen(
        "certificate-chain-incomplete",
        "tls",
        "unknown_issuer",
        "unable to get local issuer certificate",
        certificates=1,
        issuer="CN=R11,O=Let's Encrypt,C=US",
    ),
    seen("certificate-issuer-unknown", "tls", "unknown_issuer", "unable to get local issuer certificate"),
    seen("tls-too-old", "tls", "weak", "tlsv1 alert protocol version"),
    seen("tls-too-old", "tls", "weak", "unsupported protocol"),
    seen("tls-too-weak", "tls", "weak", "dh key too small"),
    seen("client-certificate-wanted", "hello", "client_certificate", "tlsv13 alert certificate required"),
    seen("client-certificate-refused", "tls", "client_certificate", "tlsv1 alert unknown ca"),
    seen("certificate-revoked", "tls", "certificate", "certificate revoked"),
    seen("certificate-refused", "tls", "certificate", "unsuitable certificate purpose"),
    seen("tls-no-common-cipher", "tls", "handshake", "sslv3 alert handshake failure"),
    seen("tls-name-unknown", "tls", "handshake", "tlsv1 unrecognized name"),
    seen("tls-timed-out", "tls", "timeout"),
    seen("tls-closed", "tls", "closed", "unexpected eof while reading"),
    seen("tls-failed", "tls", "handshake", "tlsv1 alert internal error"),
]

TOKENS = [
    seen("token-host-unknown", "token", "name_unknown", around=OAUTH),
    seen("token-dns-unavailable", "token", "dns_unavailable", around=OAUTH),
    seen("token-name-waits-for-others", "token", "dns_busy", around=OAUTH),
    seen("token-connection-refused", "token", "refused", around=OAUTH),
    seen("token-unreachable", "token", "unreachable", around=OAUTH),
    seen("token-timed-out", "token", "timeout", around=OAUTH),
    seen("token-connection-closed", "token", "closed", around=OAUTH),
    seen("token-endpoint-without-tls", "token", "not_tls", "wrong version number", OAUTH),
    seen("token-certificate-dates", "token", "expired", "certificate has expired", OAUTH),
    seen("token-certificate-name", "token", "name_mismatch", "Hostname mismatch", OAUTH),
    seen("token-certificate-issuer", "token", "unknown_issuer", "unable to get local issuer certificate", OAUTH),
    seen("token-tls-failed", "token", "handshake", "sslv3 alert handshake failure", OAUTH),
    aadsts(
        "entra-secret-wrong",
        "invalid_client",
        7000215,
        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not "
        "the client secret ID, for a secret added to app '11111111-2222-3333-4444-555555555555'.",
    ),
    aadsts("entra-secret-expired", "invalid_client", 7000222, "The provided client secret keys for app are expired."),
    aadsts("entra-app-unknown", "unauthorized_client", 700016, "Application was not found in the directory 'x'."),
    aadsts("entra-tenant-unknown", "invalid_request", 90002, "Tenant 'contoso' not found."),
    aadsts(
        "entra-tenant-unknown", "invalid_request", 900023, "Specified tenant identifier 'x' is neither a valid one."
    ),
    aadsts("entra-scope-not-default", "invalid_scope", 1002012, "The provided value for scope is not valid."),
    aadsts("entra-scope-not-default", "invalid_scope", 70011, "The provided value for the input parameter 'scope' …"),
    aadsts("entra-resource-unknown", "invalid_resource", 500011, "The resource principal named x was not found."),
    aadsts("entra-assertion-refused", "invalid_client", 700027, "Client assertion failed signature validation."),
    aadsts("entra-no-credentials", "invalid_client", 7000218, "The request body must contain 'client_assertion'."),
    aadsts("entra-access-blocked", "invalid_grant", 53003, "Access has been blocked by Conditional Access policies."),
    aadsts("entra-access-blocked", "unauthorized_client", 7000112, "Application 'x' is disabled."),
    token(
        "token-assertion-clock",
        400,
        "invalid_grant",
        error_description="Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
        "Check your iat and exp values in the JWT claim.",
    ),
    token(
        "token-client-refused", 401, "invalid_client", error_description="Invalid client or Invalid client credentials"
    ),
    token("token-client-refused", 400, "invalid_client"),
    token("token-client-not-allowed", 401, "unauthorized_client", error_description="Client not enabled to retrieve …"),
    token("token-client-not-allowed", 403, "access_denied"),
    token(
        "token-grant-unsupported", 400, "unsupported_grant_type", error_description="Invalid grant_type: client_cred…"
    ),
    token("token-scope-refused", 400, "invalid_scope"),
    token("token-audience-refused", 400, "invalid_target"),
    token("token-audience-refused", 400, "invalid_request", error_description="Missing required parameter: audience"),
    token("token-assertion-refused", 400, "invalid_grant", error_description="Invalid JWT Signature."),
    token("token-proxy-sign-in", 407, "an HTML page"),
    token("token-path-wrong", 404, "an HTML page"),
    token("token-path-wrong", 405, "an empty answer"),
    token("token-throttled", 429, "slow_down"),
    token("token-server-failed", 503, "an HTML page"),
    token("token-server-failed", 500, "server_error"),
    token("token-forbidden", 403, "an HTML page"),
    token("token-forbidden", 401, ""),
    token("token-request-refused", 400, "invalid_request"),
    seen("token-answer-is-a-page", "token", "not_json", "an HTML page", OAUTH, status=200),
    seen("token-answer-unreadable", "token", "not_json", "text that is no JSON", OAUTH, status=200),
    seen("token-missing", "token", "no_token", "no access_token", OAUTH, status=200),
    seen("token-already-expired", "token", "token_expired", "expires_in 0", OAUTH, status=200, clock_skew=-86400),
    seen("token-redirected", "token", "redirected", "https://login.example.com/", OAUTH, status=302),
    seen("client-key-unreadable", "token", "bad_key", "the private key is encrypted with a passphrase", OAUTH),
]

TURNED_AWAY = [
    said(
        "address-on-block-list",
        "recipient",
        "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org; "
        "https://www.spamhaus.org/query/ip/192.0.2.1",
        ANONYMOUS,
    ),
    said(
        "address-on-block-list", "greeting", "554 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1", ANONYMOUS
    ),
    said(
        "address-banned-microsoft",
        "sender",
        "550 5.7.606 Access denied, banned sending IP [192.0.2.1]. To request removal from this list please visit "
        "https://sender.office.com/",
        ANONYMOUS,
    ),
    said(
        "no-reverse-name",
        "recipient",
        "450 4.7.1 Client host rejected: cannot find your reverse hostname, [192.0.2.1]",
        ANONYMOUS,
    ),
    said(
        "no-reverse-name",
        "data",
        "550-5.7.25 [192.0.2.1] The IP address sending this message does not have a PTR\n550 5.7.25 record setup",
        ANONYMOUS,
    ),
    said(
        "address-not-allowed",
        "recipient",
        "554 5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied",
        ANONYMOUS,
    ),
    said(
        "address-not-allowed", "greeting", "554 IP 192.0.2.1 is not allowed to connect to this SMTP server", ANONYMOUS
    ),
    said(
        "direct-send-refused",
        "data",
        "550 5.7.68 TenantInboundAttribution; Direct Send not allowed for this organization from unauthorized sources",
        ANONYMOUS,
    ),
    said(
        "ehlo-name-refused", "recipient", "504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname"
    ),
    said("ehlo-name-refused", "hello", "501 Syntactically invalid EHLO argument(s)"),
    said("ehlo-name-refused", "recipient", "550 Access denied - Invalid HELO name (See RFC2821 4.1.1.1)"),
    said("ehlo-unknown", "hello", "502 5.5.1 Command not implemented"),
    said(
        "microsoft-concurrent-connections",
        "auth",
        "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending for more "
        "information. [FR0P281CA0001.DEUP281.PROD.OUTLOOK.COM]",
        OAUTH,
    ),
    said(
        "microsoft-daily-recipients",
        "data",
        "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message due to a "
        "permanent exception with message The message can't be submitted because the sender's submission quota was "
        "exceeded",
        OAUTH,
    ),
    said("microsoft-concurrent-connections", "data", "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded"),
    said("sending-limit-reached", "data", "550-5.4.5 Daily user sending limit exceeded. For more information …", GMAIL),
    said("sending-limit-reached", "data", "454 Throttling failure: Daily message quota exceeded.", SES),
    said("sending-limit-reached", "data", "454 Throttling failure: Maximum sending rate exceeded.", SES),
    said("sending-limit-reached", "auth", "451 Authentication failed: Maximum credits exceeded", SENDGRID),
    said("too-many-connections", "greeting", "421 4.7.0 mx.example.org Error: too many connections from 192.0.2.1"),
    said("too-many-connections", "greeting", "421 Too many concurrent SMTP connections", SES),
    said(
        "too-many-connections",
        "greeting",
        "421 4.3.2 The maximum number of concurrent connections has exceeded a limit, closing transmission channel",
    ),
    said(
        "microsoft-server-busy",
        "sender",
        "451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (AS77712344) [AM6EUR05FT001.outlook.com]",
        ANONYMOUS,
    ),
    said(
        "throttled",
        "data",
        "450 4.2.1 The user you are trying to contact is receiving mail too quickly. Please resend your message later.",
    ),
    said(
        "throttled",
        "data",
        "421-4.7.0 Our system has detected an unusual rate of unsolicited mail originating\n421 4.7.0 from your IP",
    ),
    said("greeting-busy", "greeting", "421 4.3.2 Service not available"),
    said("greeting-busy", "greeting", "451 Temporary local problem - please try later"),
    said("greeting-refused", "greeting", "554 No SMTP service here", ANONYMOUS),
    said("hello-refused", "hello", "550 5.7.1 Access denied"),
]

SIGNING_IN = [
    seen("sign-in-unencrypted", "auth", "insecure", "unencrypted", replace(RELAY, security=OFFERED)),
    seen("sign-in-unencrypted", "token", "insecure", "unencrypted", replace(OAUTH, security=OFFERED, better_port=465)),
    seen("sign-in-unverified", "auth", "insecure", "unverified", replace(RELAY, security=OFFERED)),
    seen(
        "microsoft-mx-has-no-sign-in",
        "auth",
        "not_offered",
        "AUTH",
        replace(RELAY, host="contoso-com.mail.protection.outlook.com", port=25),
    ),
    seen("no-sign-in-on-port-25", "auth", "not_offered", "AUTH", replace(RELAY, port=25)),
    seen("no-sign-in-offered", "auth", "not_offered", "AUTH"),
    seen("only-oauth-offered", "auth", "no_mechanism", "XOAUTH2", offered=["XOAUTH2"]),
    seen("no-oauth-offered", "auth", "no_mechanism", "LOGIN, PLAIN", OAUTH, offered=["LOGIN", "PLAIN"]),
    seen("no-usable-mechanism", "auth", "no_mechanism", "GSSAPI, NTLM", offered=["GSSAPI", "NTLM"]),
    said(
        "microsoft-smtp-auth-off-tenant",
        "auth",
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit "
        "https://aka.ms/smtp_auth_disabled for more information. [AM0PR02CA0001.eurprd02.prod.outlook.com]",
    ),
    said(
        "microsoft-smtp-auth-off-mailbox",
        "auth",
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox. Visit "
        "https://aka.ms/smtp_auth_disabled for more information. [AM0PR02CA0001.eurprd02.prod.outlook.com]",
    ),
    said(
        "microsoft-security-defaults",
        "auth",
        "535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy. "
        "Contact your administrator. [AM0PR02CA0001.eurprd02.prod.outlook.com]",
    ),
    said(
        "microsoft-conditional-access",
        "auth",
        "535 5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated "
        "successfully. Contact your administrator. [AM0PR02CA0001.eurprd02.prod.outlook.com]",
    ),
    said("microsoft-basic-off", "auth", "535 5.7.139 Authentication unsuccessful, basic authentication is disabled."),
    said("microsoft-basic-off", "auth", "550 5.7.30 Basic authentication is not supported for Client Submission."),
    said(
        "microsoft-credentials-wrong",
        "auth",
        "535 5.7.139 Authentication unsuccessful, the user credentials were incorrect. [PH0PR07CA0004.outlook.com]",
    ),
    said(
        "microsoft-permission-missing",
        "auth",
        "535 5.7.3 Authentication unsuccessful [FR0P281CA0001.DEUP281.PROD.OUTLOOK.COM]",
        OAUTH,
        format="jwt",
        audience=["https://outlook.office365.com"],
        roles=["IMAP.AccessAsApp", "POP.AccessAsApp"],
    ),
    said("microsoft-permission-missing", "auth", "535 5.7.139 Authentication unsuccessful", OAUTH, format="jwt"),
    said("microsoft-sign-in-blocked", "auth", "535 5.7.139 Authentication unsuccessful"),
    said(
        "microsoft-token-refused",
        "auth",
        "535 5.7.3 Authentication unsuccessful [FR0P281CA0001.DEUP281.PROD.OUTLOOK.COM]",
        OAUTH,
    ),
    said(
        "microsoft-token-refused",
        "auth",
        "535 5.7.3 Authentication unsuccessful",
        OAUTH,
        format="jwt",
        roles=["SMTP.SendAsApp"],
    ),
    said("exchange-credentials-wrong", "auth", "535 5.7.3 Authentication unsuccessful"),
    said("account-locked", "auth", "535 5.7.8 Error: authentication failed: user account is disabled"),
    said(
        "google-app-password-wanted",
        "auth",
        "534-5.7.9 Application-specific password required. For more information, go to\n"
        "534 5.7.9  https://support.google.com/mail/?p=InvalidSecondFactor a1-20 - gsmtp",
        GMAIL,
    ),
    said(
        "google-web-sign-in-wanted",
        "auth",
        "534-5.7.14 <https://accounts.google.com/signin/x> Please log in via your\n534 5.7.14 web browser - gsmtp",
        GMAIL,
    ),
    said(
        "google-credentials-wrong",
        "auth",
        "535-5.7.8 Username and Password not accepted. For more information, go to\n"
        "535 5.7.8  https://support.google.com/mail/?p=BadCredentials a1-20 - gsmtp",
        GMAIL,
    ),
    said("ses-credentials-wrong", "auth", "535 Authentication Credentials Invalid", SES),
    said("sendgrid-credentials-wrong", "auth", "535 Authentication failed: Bad username / password", SENDGRID),
    said(
        "token-refused-by-relay",
        "auth",
        "535 5.7.8 Error: authentication failed",
        OAUTH,
        detail="status 401; schemes bearer; scope https://mail.example.org/",
        mechanism="XOAUTH2",
    ),
    said("token-refused-by-relay", "auth", "535 5.7.8 no", OAUTH, detail="status invalid_token"),
    said("token-scope-too-small", "auth", "535 5.7.8 no", OAUTH, detail="status insufficient_scope"),
    said(
        "too-many-sign-ins", "auth", "454 4.7.0 Too many login attempts, please try again later. a1-20 - gsmtp", GMAIL
    ),
    said("password-transition-needed", "auth", "432 4.7.12 A password transition is needed"),
    said("mechanism-refused", "auth", "504 5.7.4 Unrecognized authentication type"),
    said("mechanism-refused", "auth", "530 5.7.0 Authentication required"),
    said("mechanism-refused", "auth", "503 AUTH command used when not advertised"),
    said("sign-in-temporarily-failed", "auth", "454 4.7.0 Temporary authentication failure: Connection lost to server"),
    said("token-not-accepted", "auth", "535 5.7.8 Error: authentication failed", OAUTH),
    said("credentials-wrong", "auth", "535 5.7.8 Error: authentication failed: UGFzc3dvcmQ6"),
    said("credentials-wrong", "auth", "535 Incorrect authentication data"),
    said("credentials-wrong", "auth", "535 Authentication failed. Restarting authentication process."),
]

ENVELOPES = [
    said(
        "microsoft-not-signed-in",
        "sender",
        "530 5.7.57 Client not authenticated to send mail. [AM6PR0732BE0065.eurprd07.prod.outlook.com]",
        ANONYMOUS,
    ),
    said(
        "google-relay-address-unknown",
        "sender",
        "550-5.7.1 Invalid credentials for relay [192.0.2.1]. The IP address you've\n550-5.7.1 registered in your "
        "Workspace SMTP Relay service doesn't match the\n550 5.7.1 domain of the account - gsmtp",
        replace(ANONYMOUS, host="smtp-relay.gmail.com"),
    ),
    said("sign-in-required", "sender", "530 SMTP authentication is required.", ANONYMOUS),
    said("sign-in-required", "sender", "530 5.7.1 Client was not authenticated", ANONYMOUS),
    said(
        "sign-in-required",
        "sender",
        "530-5.7.0 Authentication Required. For more information, go to\n530 5.7.0  …",
        ANONYMOUS,
    ),
    said("sign-in-not-remembered", "sender", "530 5.7.57 Client not authenticated to send mail."),
    said("senders-must-sign-in", "sender", "550 Unauthenticated senders not allowed", ANONYMOUS),
    said(
        "senders-must-sign-in",
        "recipient",
        "550-Please turn on SMTP Authentication in your mail client, or login to the\n550-IMAP/POP3 server before "
        "sending your message.  (pki.example.org) [192.0.2.1]\n550 is not permitted to relay through this server "
        "without authentication.",
        ANONYMOUS,
    ),
    seen("smtputf8-not-offered", "sender", "not_offered", "SMTPUTF8", replace(RELAY, recipient="用户@example.net")),
    said(
        "microsoft-send-as-denied",
        "data",
        "554 5.2.252 SendAsDenied; mailer@example.org not allowed to send as pki@example.org; "
        "STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied",
        OAUTH,
    ),
    said(
        "microsoft-send-as-denied",
        "data",
        "550 5.7.60 SMTP; Client does not have permissions to send as this sender [AM0PR02MB0001.outlook.com]",
    ),
    said("microsoft-sender-blocked", "data", "550 5.1.8 Access denied, bad outbound sender AS(42003)", OAUTH),
    said("microsoft-sender-blocked", "data", "550 5.7.705 Access denied, tenant has exceeded threshold.", OAUTH),
    said(
        "ses-address-unverified",
        "data",
        "554 Message rejected: Email address is not verified. The following identities failed the check in region "
        "US-EAST-1: pki@example.org",
        SES,
    ),
    said(
        "ses-not-authorised",
        "data",
        "554 Access denied: User `arn:aws:iam::123456789012:user/ses' is not authorized to perform `ses:SendRawEmail' "
        "on resource `arn:aws:ses:us-east-1:123456789012:identity/example.org'",
        SES,
    ),
    said(
        "sendgrid-sender-unverified",
        "data",
        "550 The from address does not match a verified Sender Identity. Mail cannot be sent until this error is "
        "resolved.",
        SENDGRID,
    ),
    said(
        "sender-not-owned",
        "recipient",
        "553 5.7.1 <pki@example.org>: Sender address rejected: not owned by user mailer@example.org",
    ),
    said("sender-domain-unknown", "sender", "550 5.1.8 <pki@example.org>: Sender address rejected: Domain not found"),
    said("sender-domain-unknown", "recipient", "450 4.1.8 <pki@x.org>: Sender address rejected: Domain not found"),
    said("sender-domain-unknown", "recipient", "550 Sender verify failed"),
    said("spf-refused", "data", "550 5.7.23 The message was rejected because of Sender Policy Framework violation"),
    said(
        "sender-unauthenticated",
        "data",
        "550-5.7.26 This mail has been blocked because the sender is unauthenticated.\n550-5.7.26 Gmail requires all "
        "senders to authenticate with either SPF or DKIM.\n550 5.7.26 a1-20 - gsmtp",
    ),
    said(
        "sender-unauthenticated",
        "data",
        "550 5.7.509 Access denied, sending domain [EXAMPLE.ORG] does not pass DMARC verification and has a DMARC "
        "policy of reject.",
    ),
    said("sender-unauthenticated", "data", "550 5.7.1 rejected by DMARC policy for example.org"),
    said("sender-address-malformed", "sender", "501 5.1.7 Bad sender address syntax"),
    said("sender-address-malformed", "sender", "501 5.1.7 Invalid address", replace(RELAY, sender="pki")),
    said("microsoft-connector-missing", "recipient", "550 5.7.64 TenantAttribution; Relay Access Denied", ANONYMOUS),
    said(
        "microsoft-connector-missing",
        "recipient",
        "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain",
        ANONYMOUS,
    ),
    said(
        "relay-denied-while-signed-in",
        "recipient",
        "554 5.7.1 <admin@example.net>: Relay access denied",
        replace(RELAY, recipient=None),
        recipient="admin@example.net",
    ),
    said("relay-denied", "recipient", "554 5.7.1 <admin@example.net>: Relay access denied", ANONYMOUS),
    said("relay-denied", "recipient", "550 relay not permitted", ANONYMOUS),
    said("relay-denied", "recipient", "550 5.7.1 Unable to relay", ANONYMOUS),
    said("relay-denied", "recipient", "550 Delivery is not allowed to this address.", ANONYMOUS),
    said(
        "greylisted",
        "recipient",
        "450 4.2.0 <admin@example.net>: Recipient address rejected: Greylisted, see "
        "http://postgrey.schweikert.ch/help/example.net.html",
    ),
    said("greylisted", "recipient", "451 4.7.1 Greylisting in action, please come back later"),
    said("too-many-recipients", "recipient", "452 4.5.3 Error: too many recipients"),
    said("mailbox-full-for-now", "recipient", "452 4.2.2 The email account that you tried to reach is over quota."),
    said(
        "microsoft-own-mailbox-full",
        "data",
        "554 5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException; Failed to process message",
        OAUTH,
    ),
    said("mailbox-full", "recipient", "552 5.2.2 <admin@example.net>: Recipient address rejected: Mailbox is full"),
    said("mailbox-storage-used-up", "recipient", "552 Requested mail action aborted: exceeded storage allocation"),
    said("message-too-large", "data", "552 Requested mail action aborted: exceeded storage allocation"),
    said("mailbox-disabled", "recipient", "550 5.2.1 The email account that you tried to reach is disabled."),
    said(
        "recipient-unknown",
        "recipient",
        "550 5.1.1 <admin@example.net>: Recipient address rejected: User unknown in virtual mailbox table",
    ),
    said("recipient-unknown", "recipient", "550 Unrouteable address"),
    said("recipient-unknown", "recipient", "550 Unknown user"),
    said(
        "recipient-unknown", "recipient", "550 5.4.1 Recipient address rejected: Access denied. [AM0EUR02.outlook.com]"
    ),
    said(
        "recipient-domain-unknown",
        "recipient",
        "450 4.1.2 <admin@example.net>: Recipient address rejected: Domain not found",
    ),
    said("recipient-malformed", "recipient", "501 5.1.3 Bad recipient address syntax", replace(RELAY, recipient=None)),
]

MESSAGES = [
    seen("message-larger-than-size", "sender", "too_large", size=52_428_800, limit=10_240_000),
    said("message-too-large", "sender", "552 5.3.4 Message size exceeds fixed limit"),
    said("message-too-large", "data", "552 Message size exceeds maximum permitted"),
    said("message-too-large", "data", "552 5.3.4 Maximum message size exceeded"),
    said(
        "message-too-large", "data", "552-5.2.3 Your message exceeded Google's message size limits.\n552 5.2.3 …", GMAIL
    ),
    said("relay-storage-full", "sender", "452 4.3.1 Insufficient system storage"),
    said("relay-storage-full", "data", "451 4.3.0 Error: queue file write error"),
    said("relay-misconfigured", "recipient", "451 4.3.5 Server configuration error"),
    said("relay-misconfigured", "recipient", "451 Temporary local problem - please try later"),
    said("message-has-virus", "data", "550 5.7.1 virus Eicar-Signature detected by ClamAV - http://www.clamav.net"),
    said(
        "attachment-refused",
        "data",
        "552-5.7.0 This message was blocked because its content presents a potential\n552 5.7.0 security issue.",
        GMAIL,
    ),
    said("message-taken-for-spam", "data", "554 5.7.1 Spam message rejected"),
    said("message-taken-for-spam", "sender", "554 Sending address not accepted due to spam filter"),
    said("message-malformed", "data", "550 5.6.11 SMTPSEND.BareLinefeedsAreIllegal; message contains bare linefeeds"),
    said(
        "message-malformed",
        "data",
        "550-5.7.1 Messages missing a valid From: header are not accepted.\n550 5.7.1 gsmtp",
    ),
    said(
        "message-against-policy", "data", "550 5.7.1 TRANSPORT.RULES.RejectMessage; the message was rejected by policy"
    ),
    said("data-refused-without-recipients", "data", "554 5.5.1 Error: no valid recipients"),
    seen("outcome-unknown", "data", "outcome_unknown"),
    seen("message-stalled", "data", "timeout"),
    seen("message-cut-off", "data", "closed"),
]

OTHERWISE = [
    said("relay-shutting-down", "data", "421 4.4.2 mx.example.org Error: timeout exceeded"),
    said("relay-shutting-down", "auth", "421 4.7.0 Temporary System Problem. Try again later."),
    said("relay-shutting-down", "hello", "421 4.7.0 Try again later, closing connection. (EHLO) a1-20 - gsmtp", GMAIL),
    said("sender-deferred", "sender", "451 4.1.8 Sender address cannot be checked now"),
    said("sender-refused", "sender", "553 5.7.1 This sender is unwanted"),
    said("recipient-deferred", "recipient", "450 4.1.1 <admin@example.net>: unverified address: try later"),
    said("recipient-refused", "recipient", "550 Administrative prohibition - envelope blocked"),
    said("message-refused", "data", "554 Transaction failed"),
    said("message-deferred", "data", "451 Timeout waiting for data from client", SES),
    said("deferred", "hello", "450 4.7.0 Not now"),
    said("deferred", "auth", "450 Not now"),
    said("command-unknown", "recipient", "503 5.5.1 Error: need MAIL command"),
    said("command-unknown", "sender", "500 5.5.2 Error: bad syntax"),
    said("refused", "sender", "521 5.3.2 No mail here"),
    said("unexpected-reply", "sender", "354 Go ahead"),
    seen("not-smtp-any-more", "data", "not_smtp", "an answer that DATA cannot have"),
    seen("timed-out", "recipient", "timeout"),
    seen("timed-out", "auth", "timeout"),
    seen("connection-lost", "sender", "closed"),
    seen("connection-lost", "auth", "closed"),
    seen("unexplained", "sender", "bad_key"),
]

VAULTS = [
    seen("vault-not-found", "vault", "not_found", "reading the secret: status 404"),
    seen("vault-denied", "vault", "denied", "reading the secret: status 403"),
    seen("vault-sealed", "vault", "sealed", "reading the secret: status 503"),
    seen("vault-unreachable", "vault", "unreachable", "nobody listens there"),
    seen("vault-timeout", "vault", "timeout", "no answer within 10 seconds"),
    seen("vault-bad-answer", "vault", "bad_answer", "reading the secret: the answer is HTML"),
    seen("vault-parameter-missing", "vault", "parameter_missing", "Key has no value"),
    seen("vault-bad-parameter", "vault", "bad_parameter", "Host is not a URL such as https://vault.example.org"),
    seen("vault-extra-missing", "vault", "extra_missing", "pip install keyrelay[aws]"),
]

EXAMPLES = [
    *VAULTS,
    *REACHING,
    *IN_TLS,
    *TOKENS,
    *TURNED_AWAY,
    *SIGNING_IN,
    *ENVELOPES,
    *MESSAGES,
    *OTHERWISE,
]
