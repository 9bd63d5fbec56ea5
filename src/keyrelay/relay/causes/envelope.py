"""Why the relay did not take the sender or a recipient."""

from __future__ import annotations

from keyrelay.relay.causes.model import Cause
from keyrelay.relay.model import Stage

# With the message answered at its end, some relays say only there what they think of the envelope.
_ANY: tuple[Stage, ...] = ("sender", "recipient", "data")

ENVELOPE: tuple[Cause, ...] = (
    # --- Who may send at all ---
    Cause(
        id="microsoft-not-signed-in",
        stages=_ANY,
        kinds=("reply",),
        enhanced=("5.7.57",),
        sign_ins=("anonymous",),
        sentence="Exchange wants a sign-in, and the profile is Anonymous.",
        remedy="Choose OAuth client credentials (RelayAuthenticationType 3) or Basic (2). At an Exchange of your own, "
        "a receive connector that allows anonymous users from this machine's address works too.",
        more="Microsoft: Fix NDR error 5.7.57",
    ),
    Cause(
        id="google-relay-address-unknown",
        stages=_ANY,
        kinds=("reply",),
        pattern=r"invalid credentials for relay|registered in your workspace",
        sentence="Google's SMTP relay service does not know this machine's public address.",
        remedy="Google Admin console, Apps, Google Workspace, Gmail, Routing, SMTP relay service: add the public "
        "address (behind NAT it is the router's), or require sign-in and choose Basic.",
        more="Google: Route outgoing SMTP relay messages through Google",
    ),
    Cause(
        id="sign-in-required",
        stages=("hello", *_ANY),
        kinds=("reply",),
        codes=(530,),
        sign_ins=("anonymous",),
        sentence="{host} wants a sign-in, and the profile is Anonymous.",
        remedy="Choose Basic (RelayAuthenticationType 2) with user name and password, or OAuth (3). Or have the "
        "relay's administrator allow this machine's address without sign-in.",
        more="RFC 4954 section 6",
    ),
    Cause(
        id="sign-in-not-remembered",
        stages=("hello", *_ANY),
        kinds=("reply",),
        codes=(530,),
        sentence="{host} has accepted the sign-in, and then asks for one again.",
        remedy="Check that the account may send (a mailbox, a licence), and ask the relay's administrator to look at "
        "the log of this session.",
    ),
    Cause(
        id="senders-must-sign-in",
        stages=_ANY,
        kinds=("reply",),
        codes=(5,),
        pattern=r"unauthenticated senders|authentication (is )?required|not authenticated|please (log ?in|authenticate)"
        r"|turn on smtp authentication|without authentication",
        sign_ins=("anonymous",),
        sentence="{host} takes mail from this machine only after a sign-in, and the profile is Anonymous.",
        remedy="Choose Basic (RelayAuthenticationType 2) with user name and password (at SendGrid the user name is "
        "the word apikey), or OAuth (3).",
    ),
    # --- The sender ---
    Cause(
        id="smtputf8-not-offered",
        stages=("sender", "recipient"),
        kinds=("not_offered",),
        sentence="An address has letters beyond ASCII before its @, and {host} does not take such addresses "
        "(SMTPUTF8).",
        remedy="Use an address in ASCII, or a relay that offers SMTPUTF8.",
        more="RFC 6531",
    ),
    Cause(
        id="microsoft-send-as-denied",
        stages=_ANY,
        kinds=("reply",),
        pattern=r"SendAsDenied|does not have permissions to send as|not allowed to send as",
        sentence="The account that signed in may not send as {sender}.",
        remedy="Set SenderAccount to the mailbox that signs in, or give it the permission Send as for {sender}: "
        "Exchange admin center, Mailboxes, the mailbox, Delegation. It can take an hour.",
        more="Microsoft: Fix NDR error 5.7.60",
    ),
    Cause(
        id="microsoft-sender-blocked",
        stages=_ANY,
        kinds=("reply",),
        enhanced=("5.1.8", "5.1.90", "5.7.705", "5.7.501", "5.7.502"),
        pattern=r"outbound|spam|threshold|banned|access denied",
        sentence="Microsoft has blocked {sender}, or the whole organisation, from sending: too much mail, or mail "
        "that looked like spam.",
        remedy="Find out what was sent (a stolen password is common) and stop it; then release the account under "
        "Restricted entities in the Microsoft Defender portal.",
        more="Microsoft: Remove blocked users from the Restricted entities page",
    ),
    Cause(
        id="ses-address-unverified",
        stages=_ANY,
        kinds=("reply",),
        pattern=r"email address is not verified|identities failed the check",
        sentence="Amazon SES does not send for addresses that are not verified, and the reply names them. In the "
        "sandbox that holds for recipients too.",
        remedy="Amazon SES console, Identities, in the region of Host: verify the domain of {sender}. If it is the "
        "recipient that is named, ask there for production access.",
        more="Amazon SES: Verified identities",
    ),
    Cause(
        id="ses-not-authorised",
        stages=_ANY,
        kinds=("reply",),
        pattern=r"not authorized to perform.{0,10}ses:",
        sentence="The user of these SMTP credentials may not send as {sender} at Amazon SES.",
        remedy="Give the IAM user the permission ses:SendRawEmail for this identity, and look for conditions in its "
        "policy (sender, address, region).",
        more="Amazon SES: Controlling access with IAM policies",
    ),
    Cause(
        id="sendgrid-sender-unverified",
        stages=_ANY,
        kinds=("reply",),
        pattern=r"verified sender identity",
        sentence="SendGrid does not know {sender} as a verified sender.",
        remedy="SendGrid, Settings, Sender Authentication: authenticate the domain {sender_domain}, or verify the one "
        "address.",
        more="SendGrid: Sender Identity",
    ),
    Cause(
        id="sender-not-owned",
        stages=_ANY,
        kinds=("reply",),
        codes=(5,),
        pattern=r"not owned by user|not logged in|sender address.{0,30}(not match|must match|not permitted|not allowed)"
        r"|not authori[sz]ed to (use|send)|sender is not (allowed|permitted)",
        sentence="{host} does not let this account send as {sender}.",
        remedy="Set SenderAccount to the address of the account that signs in, or have the relay's administrator "
        "allow it (Postfix: smtpd_sender_login_maps). Without sign-in, choose Basic.",
    ),
    Cause(
        id="sender-domain-unknown",
        stages=_ANY,
        kinds=("reply",),
        pattern=r"sender.{0,80}domain (not found|does not exist)|domain of sender address.{0,40}not (exist|resolve)"
        r"|sender address rejected: (unknown|undeliverable)|sender verif(y|ication) failed",
        sentence="{host} finds no domain {sender_domain} in DNS, or nothing there that takes mail for {sender}.",
        remedy="Correct SenderAccount: its domain must exist and should have an MX record, as the relay's own name "
        "server sees it.",
    ),
    Cause(
        id="spf-refused",
        stages=_ANY,
        kinds=("reply",),
        enhanced=("5.7.23", "4.7.23"),
        sentence="The receiver refuses mail from {sender_domain}, because SPF does not name the relay that it came "
        "from.",
        remedy="Add the relay to the SPF record of {sender_domain} (TXT, v=spf1 …), or send through a relay that is "
        "named there already.",
        more="RFC 7208; RFC 7372 section 3.2",
    ),
    Cause(
        id="sender-unauthenticated",
        stages=_ANY,
        kinds=("reply",),
        codes=(4, 5),
        pattern=r"\bdmarc\b|\bspf\b|\bdkim\b|sender is unauthenticated|unauthenticated email|anti.?spoof",
        sentence="The receiver could not make sure that mail from {sender_domain} really is from there (SPF, DKIM or "
        "DMARC).",
        remedy="Name the relay in the SPF record of {sender_domain}, have the relay sign with DKIM for that domain, "
        "and look at its DMARC record. Inside your organisation, have this machine excepted from spoofing protection.",
        more="RFC 7489; Google: Email sender guidelines",
    ),
    Cause(
        id="sender-address-malformed",
        stages=("sender",),
        kinds=("reply",),
        codes=(501, 553, 555),
        enhanced=("5.1.7", "5.5.2", "5.5.4", "5.1.3"),
        sentence="{host} cannot read the sender {sender} as an address.",
        remedy="Set SenderAccount to a plain address such as pki@example.org, with a whole domain.",
        more="RFC 5321 section 4.1.2",
    ),
    # --- The recipient ---
    Cause(
        id="microsoft-connector-missing",
        stages=_ANY,
        kinds=("reply",),
        enhanced=("5.7.64", "5.7.54"),
        sentence="Exchange takes mail from this machine for its own domains only, and {recipient} is outside.",
        remedy="Exchange Online: set up an inbound connector for this machine's public address, or sign in. Exchange "
        "of your own: allow the receive connector to relay for this address (Ms-Exch-SMTP-Accept-Any-Recipient).",
        more="Microsoft: Fix NDR error 5.7.64",
    ),
    Cause(
        id="relay-denied-while-signed-in",
        stages=("recipient", "data"),
        kinds=("reply",),
        pattern=r"relay(ing)? (access )?(is )?(denied|not (permitted|allowed))|not permitted to relay|unable to relay"
        r"|delivery is not allowed",
        sign_ins=("basic", "oauth_client_credentials"),
        sentence="{host} does not pass on mail to {recipient}, not even for this account.",
        remedy="Have the relay's administrator allow the account to send outside (Postfix: permit_sasl_authenticated "
        "in smtpd_relay_restrictions). The submission port (587) often has other rules than port 25.",
    ),
    Cause(
        id="relay-denied",
        stages=("recipient", "data"),
        kinds=("reply",),
        pattern=r"relay(ing)? (access )?(is )?(denied|not (permitted|allowed))|not permitted to relay|unable to relay"
        r"|delivery is not allowed",
        sentence="{host} does not pass on mail from this machine to other domains, such as that of {recipient}.",
        remedy="Have the relay's administrator allow this machine's address (Postfix: mynetworks; Exim: "
        "relay_from_hosts; Exchange: receive connector), or sign in: Basic or OAuth.",
    ),
    Cause(
        id="greylisted",
        stages=("sender", "recipient", "data"),
        kinds=("reply",),
        codes=(4,),
        pattern=r"gr[ea]y.?list|postgrey",
        sentence="The receiver makes unknown senders wait (greylisting). That is normal the first time.",
        remedy="Try again in five to fifteen minutes. If it is a relay of your own, except this machine's address.",
        retry=True,
        more="RFC 6647",
    ),
    Cause(
        id="too-many-recipients",
        stages=("recipient", "data"),
        kinds=("reply",),
        codes=(4, 5),
        enhanced=("4.5.3", "5.5.3"),
        sentence="{host} takes no more recipients for one message.",
        remedy="Send to fewer recipients at once; those it has accepted already get the message.",
        retry=True,
        more="RFC 5321 section 4.5.3.1.10",
    ),
    Cause(
        id="mailbox-full-for-now",
        stages=("recipient", "data"),
        kinds=("reply",),
        codes=(4,),
        pattern=r"over ?quota|quota exceeded|mailbox (is )?full|out of storage|\b4\.2\.2\b",
        sentence="The mailbox of {recipient} is full.",
        remedy="The owner must make room. The relay takes mail again when that is done.",
        retry=True,
        more="RFC 3463 section 3.3",
    ),
    Cause(
        id="microsoft-own-mailbox-full",
        stages=("data",),
        kinds=("reply",),
        enhanced=("5.2.2",),
        pattern=r"STOREDRV\.Submission|QuotaExceeded",
        sentence="The mailbox {sender} itself is full: Exchange Online keeps a copy of all it sends in Sent Items.",
        remedy="Empty Sent Items of {sender}, and set a retention policy that does so from now on.",
        more="Microsoft: Fix NDR error 5.2.2",
    ),
    Cause(
        id="mailbox-full",
        stages=("recipient", "data"),
        kinds=("reply",),
        codes=(5,),
        pattern=r"over ?quota|quota exceeded|mailbox (is )?full|out of storage|\b5\.2\.2\b",
        sentence="The mailbox of {recipient} is full.",
        remedy="The owner must make room; use another recipient until then.",
        more="RFC 3463 section 3.3",
    ),
    Cause(
        id="mailbox-storage-used-up",
        stages=("recipient",),
        kinds=("reply",),
        codes=(552,),
        # About a message it is said in the same words, but only after the message.
        pattern=r"storage allocation",
        sentence="The mailbox of {recipient} has used up its room.",
        remedy="The owner must make room; use another recipient until then.",
        more="RFC 5321 section 4.2.3",
    ),
    Cause(
        id="mailbox-disabled",
        stages=("recipient", "data"),
        kinds=("reply",),
        codes=(5,),
        pattern=r"(mailbox|account|user|recipient).{0,30}(disabled|inactive|suspended)|\b5\.2\.1\b",
        sentence="The mailbox of {recipient} exists and takes no mail: it is switched off.",
        remedy="Use another recipient, or have the mailbox switched on.",
        more="RFC 3463 section 3.3",
    ),
    Cause(
        id="recipient-unknown",
        stages=("recipient", "data"),
        kinds=("reply",),
        codes=(5,),
        pattern=r"user unknown|unknown (user|recipient|mailbox)|no such (user|person|recipient|mailbox)"
        r"|(user|mailbox|recipient|account|address).{0,40}(not found|does not exist|doesn't exist|unavailable|unknown)"
        r"|unrouteable address|\b5\.1\.(1|10)\b|\b5\.4\.1\b",
        sentence="There is no mailbox {recipient}, as far as {host} knows.",
        remedy="Correct the recipient. If the mailbox is new, the relay may not know it yet.",
        more="RFC 3463 section 3.2",
    ),
    Cause(
        id="recipient-domain-unknown",
        stages=("recipient", "data"),
        kinds=("reply",),
        codes=(4, 5),
        pattern=r"domain not found|host not found|no (mx|mail) (record|server|exchanger)|\b[45]\.1\.2\b|\b5\.4\.4\b",
        sentence="{host} finds no mail server for the domain of {recipient}.",
        remedy="Check the part after the @. If it is right, the relay's own name server may not know the domain.",
        more="RFC 3463 section 3.2",
    ),
    Cause(
        id="recipient-malformed",
        stages=("recipient",),
        kinds=("reply",),
        codes=(501, 553, 555),
        sentence="{host} cannot read {recipient} as an address, or does not take mail for it.",
        remedy="Give the recipient as a plain address such as user@example.org.",
        more="RFC 5321 section 4.1.2",
    ),
)
