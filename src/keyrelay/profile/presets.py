"""What known relays want: data to fill a profile with, their published limits, and what has to be done there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from keyrelay.profile.draft import SignIn
from keyrelay.profile.model import SUBMISSIONS_PORT

_SUBMISSION_PORT = 587
_TENANT = "the id of your tenant, or one of its domains"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A relay that is known. ``name`` is what it is called in addresses.

    ``blanks``: words in the values that stand for something of one's own, and for what. ``limits``: what is published,
    in words, and ``settings``: what makes keyrelay keep to that. ``steps``: what has to be done, in this order;
    ``more``: the relay's own page about it.
    """

    name: str
    title: str
    host: str
    port: int = _SUBMISSION_PORT
    use_ssl: bool = True
    authentication: SignIn = "basic"
    relay_username: str | None = None
    token_endpoint: str | None = None
    scope: str | None = None
    blanks: Mapping[str, str] = field(default_factory=dict)
    limits: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    more: str | None = None


def _microsoft(name: str, cloud: str, host: str, authority: str, resource: str) -> Preset:
    return Preset(
        name=name,
        title=f"Microsoft 365, {cloud}",
        host=host,
        authentication="oauth_client_credentials",
        token_endpoint=f"https://{authority}/TENANT/oauth2/v2.0/token",
        scope=f"https://{resource}/.default",
        blanks={"TENANT": _TENANT},
        limits="For each mailbox: 3 connections at once, 30 messages a minute, 10,000 recipients a day.",
        settings={"KEYRELAY_RELAY_LIMITS": "office365"},
        steps=(
            (
                "Entra admin center, App registrations: register an application, and make a client secret. Copy its "
                "value, not its id."
            ),
            (
                "There, API permissions: add the application permission SMTP.SendAsApp of Office 365 Exchange "
                "Online, and grant admin consent."
            ),
            (
                "In Exchange Online PowerShell: New-ServicePrincipal with the application's id and the object id "
                "that Enterprise applications shows. The object id of App registrations is another one, and the "
                "usual mistake."
            ),
            "Give that service principal the mailbox: Add-MailboxPermission, with FullAccess.",
            "Switch Authenticated SMTP on for the mailbox: Set-CASMailbox -SmtpClientAuthenticationDisabled $false.",
            "Sender account is the address of that mailbox.",
            (
                "Each message is kept in the mailbox's Sent Items, and a full mailbox sends nothing more: set a "
                "retention policy for it."
            ),
        ),
        more="Microsoft: Authenticate an IMAP, POP or SMTP connection using OAuth",
    )


_ALL = (
    _microsoft(
        "microsoft-365", "worldwide", "smtp.office365.com", "login.microsoftonline.com", "outlook.office365.com"
    ),
    _microsoft(
        "microsoft-365-gcc-high",
        "US Government GCC High",
        "smtp.office365.us",
        "login.microsoftonline.us",
        "outlook.office365.us",
    ),
    _microsoft(
        "microsoft-365-dod",
        "US Government DoD",
        "outlook-dod.office365.us",
        "login.microsoftonline.us",
        "outlook-dod.office365.us",
    ),
    _microsoft(
        "microsoft-365-china",
        "China (21Vianet)",
        "smtp.partner.outlook.cn",
        "login.partner.microsoftonline.cn",
        "partner.outlook.cn",
    ),
    Preset(
        name="microsoft-365-connector",
        title="Microsoft 365, direct send or connector",
        host="DOMAIN.mail.protection.outlook.com",
        port=25,
        authentication="anonymous",
        blanks={"DOMAIN": "your domain with a hyphen for each dot: DNS has the whole name as the domain's MX"},
        steps=(
            "Look the MX of your domain up in DNS and write it as the host, if it is another one.",
            "Without a connector (direct send), only recipients of your own organisation are accepted.",
            (
                "To reach others: Exchange admin center, Mail flow, Connectors: a connector from your "
                "organisation's email server that knows the public address keyrelay sends from, or the certificate "
                "of KEYRELAY_RELAY_CLIENT_CERT."
            ),
            "Add that public address to the SPF record of the sender's domain.",
            "Outgoing port 25 has to be open; many clouds close it.",
        ),
        more="Microsoft: How to set up a multifunction device or application to send email",
    ),
    Preset(
        name="azure-communication-services",
        title="Azure Communication Services",
        host="smtp.azurecomm.net",
        limits="For each subscription, until support raises it: 30 messages a minute, 100 messages an hour.",
        settings={"KEYRELAY_RELAY_LIMITS": "azure-communication-services"},
        steps=(
            "Connect a verified domain to the Communication Services resource.",
            "Register an application in Entra, and give it a role on the resource that may send.",
            "In the resource, SMTP Usernames: add a user name for that application.",
            "User name is that one; the password is a client secret of the application.",
            "Sender account is a MailFrom address of the domain.",
        ),
        more="Microsoft: Set up SMTP authentication for sending emails",
    ),
    Preset(
        name="google-relay",
        title="Google Workspace, SMTP relay",
        host="smtp-relay.gmail.com",
        authentication="anonymous",
        limits="For each user who sends: 10,000 messages a day, 10,000 recipients a day.",
        settings={"KEYRELAY_RELAY_LIMITS": "google-relay"},
        steps=(
            "Google Admin console, Apps, Google Workspace, Gmail, Routing, SMTP relay service: add a rule.",
            "In the rule, add the public address that keyrelay sends from, and require TLS.",
            "Allowed senders: only addresses of your own domains, one of which is the sender account.",
            "If Google wants a name of yours in EHLO, set KEYRELAY_HELLO_NAME to your domain.",
        ),
        more="Google: Route outgoing SMTP relay messages through Google",
    ),
    Preset(
        name="google-workspace",
        title="Google Workspace or Gmail, app password",
        host="smtp.gmail.com",
        limits="For each user of Google Workspace: 2,000 messages a day, 10,000 recipients a day.",
        settings={"KEYRELAY_RELAY_LIMITS": "google-workspace"},
        steps=(
            "Switch 2-Step Verification on for the account.",
            "Google account, Security, App passwords: make one for keyrelay.",
            "User name is the whole address; the password is the app password, without spaces.",
            "Sender account is that address or one of its aliases; Google replaces any other.",
        ),
        more="Google: Sign in with app passwords",
    ),
    Preset(
        name="amazon-ses",
        title="Amazon SES",
        host="email-smtp.REGION.amazonaws.com",
        blanks={"REGION": "the region of your SES account, such as eu-west-1"},
        limits="In the sandbox: 1 recipient a second, 200 recipients a day. Outside of it, the account dashboard "
        "shows what your account may.",
        settings={"KEYRELAY_RELAY_LIMITS": "amazon-ses-sandbox"},
        steps=(
            "Verify the sender's domain or address in that region; in the sandbox, those of the recipients too.",
            "Ask for production access, to leave the sandbox.",
            (
                "SES console, SMTP settings: create SMTP credentials. They are not an AWS access key, and good in "
                "one region only."
            ),
            "From EC2, port 25 is throttled; 587 is not.",
        ),
        more="Amazon: Using the Amazon SES SMTP interface to send email",
    ),
    Preset(
        name="sendgrid",
        title="SendGrid",
        host="smtp.sendgrid.net",
        relay_username="apikey",
        steps=(
            "Settings, Sender Authentication: authenticate the sender's domain, or verify the one address.",
            "Settings, API Keys: make a key that may do Mail Send.",
            "User name is the word apikey; the password is the key.",
        ),
        more="SendGrid: Integrating with the SMTP API",
    ),
    Preset(
        name="postmark",
        title="Postmark",
        host="smtp.postmarkapp.com",
        steps=(
            "Verify the sender's domain, or the address as a sender signature.",
            "Servers, the server, API Tokens: the server token is both user name and password.",
            "The account has to be approved before it may send to other domains than your own.",
        ),
        more="Postmark: Send email with SMTP",
    ),
    Preset(
        name="mailgun",
        title="Mailgun",
        host="smtp.mailgun.org",
        steps=(
            "A domain in the EU region has the host smtp.eu.mailgun.org.",
            "Verify the sender's domain.",
            "Domain settings, SMTP credentials: make a user and its password. User name is the whole address.",
        ),
        more="Mailgun: Sending messages via SMTP",
    ),
    Preset(
        name="brevo",
        title="Brevo",
        host="smtp-relay.brevo.com",
        steps=(
            "Authenticate the sender's domain, and add the sender.",
            (
                "SMTP & API, SMTP: copy the login, and make an SMTP key. An API key is another thing and does not "
                "sign in here."
            ),
        ),
        more="Brevo: Send transactional emails using Brevo SMTP",
    ),
    Preset(
        name="mailjet",
        title="Mailjet",
        host="in-v3.mailjet.com",
        steps=(
            "Validate the sender's domain or address.",
            "Account settings, SMTP and SEND API settings: the API key is the user name, the secret key the password.",
        ),
        more="Mailjet: SMTP relay",
    ),
    Preset(
        name="fastmail",
        title="Fastmail, app password",
        host="smtp.fastmail.com",
        port=SUBMISSIONS_PORT,
        steps=(
            "Settings, Privacy & Security: make an app password that may send mail (SMTP).",
            "User name is the whole address of the account; its own password does not sign in here.",
        ),
        more="Fastmail: Server names and ports",
    ),
)
PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in _ALL}
