"""Why the relay turned us away: for where we come from, for the name we gave, or for how much we send."""

from __future__ import annotations

from keyrelay.relay.causes.model import Cause
from keyrelay.relay.model import Stage

_SMTP: tuple[Stage, ...] = ("greeting", "hello", "tls", "auth", "sender", "recipient", "data")
_MAIL: tuple[Stage, ...] = ("sender", "recipient", "data")

TURNED_AWAY: tuple[Cause, ...] = (
    # --- For where we come from ---
    Cause(
        id="address-on-block-list",
        stages=_SMTP,
        kinds=("reply",),
        codes=(4, 5),
        pattern=r"spamhaus|spamcop|barracudacentral|sorbs|dnsbl|\brbl\b|block ?list|black ?list|ipcheck\.proofpoint",
        sentence="{host} turns this machine's public address away because it is on a block list.",
        remedy="The relay's answer names the list: look the address up there and ask for removal once the reason is "
        "gone. Better, send through a relay that you sign in to.",
    ),
    Cause(
        id="address-banned-microsoft",
        stages=_SMTP,
        kinds=("reply",),
        enhanced=("5.7.606", "5.7.511", "5.7.708"),
        sentence="Microsoft takes no mail from this machine's public address.",
        remedy="Ask for removal in Microsoft's delist portal (sender.office.com), or sign in and submit through "
        "smtp.office365.com, Port 587, with UseSSL on.",
        more="Microsoft: Use the delist portal to remove yourself from the blocked senders list",
    ),
    Cause(
        id="no-reverse-name",
        stages=_SMTP,
        kinds=("reply",),
        codes=(4, 5),
        pattern=r"reverse (dns|hostname|host name|lookup)|\bptr\b|cannot find your (reverse )?host",
        sentence="{host} wants this machine's public address to have a name in DNS, and it has none that fits.",
        remedy="Have your network or cloud company set a PTR record for the address, to a name that leads back to it. "
        "Or send through a relay that you sign in to.",
    ),
    Cause(
        id="address-not-allowed",
        stages=("greeting", "hello", "sender", "recipient"),
        kinds=("reply",),
        codes=(5,),
        pattern=r"client host rejected: access denied"
        r"|\b(client|ip|connecting host)\b.{0,40}not (allowed|permitted|authori[sz]ed)",
        sentence="{host} does not take mail from this machine's address.",
        remedy="Have the relay's administrator allow the address (Postfix: mynetworks; Exchange: the receive "
        "connector; Google: SMTP relay service in the Admin console). Behind NAT it is the public address that counts.",
    ),
    Cause(
        id="direct-send-refused",
        stages=_MAIL,
        kinds=("reply",),
        enhanced=("5.7.68",),
        sentence="Exchange Online refuses mail that is handed in without sign-in (Direct Send) for this organisation.",
        remedy="Sign in: Host smtp.office365.com, Port 587, UseSSL on. Or set up an inbound connector for this "
        "machine's address in the Exchange admin center.",
        more="Microsoft: RejectDirectSend in Set-OrganizationConfig",
    ),
    # --- For the name we gave ---
    Cause(
        id="ehlo-name-refused",
        stages=("hello", "sender", "recipient"),
        kinds=("reply",),
        codes=(4, 501, 504, 550, 553, 554),
        pattern=r"\b(helo|ehlo)\b.{0,80}(invalid|reject|refus|syntactically|denied|not |needs?|require|bogus|bad)"
        r"|(invalid|reject|refus|syntactically|bogus|bad|denied).{0,60}\b(helo|ehlo)\b|fully.qualified host ?name",
        sentence="{host} does not like the name that keyrelay gave itself in EHLO.",
        remedy="Set the EHLO name to this machine's whole name as it stands in DNS, such as mailer.example.org: see "
        "KEYRELAY_HELLO_NAME.",
        more="RFC 5321 section 4.1.1.1",
    ),
    Cause(
        id="ehlo-unknown",
        stages=("hello",),
        kinds=("reply",),
        codes=(500, 502),
        sentence="{host} does not know EHLO. It is very old, or a firewall with SMTP inspection stands in between.",
        remedy="Ask your network team to switch off SMTP inspection towards {host} (Cisco: inspect esmtp), or use "
        "another relay.",
        more="RFC 5321 section 4.1.1.1",
    ),
    # --- For how much we send ---
    Cause(
        id="microsoft-concurrent-connections",
        stages=_SMTP,
        kinds=("reply",),
        codes=(432,),
        enhanced=("4.3.2",),
        sentence="Too many connections submit mail for this mailbox at once; Exchange Online allows three.",
        remedy="Let other programs use other mailboxes, or hand their mail to keyrelay. It will work again when the "
        "others are done.",
        retry=True,
        more="Microsoft: Exchange Online limits, sending limits",
    ),
    Cause(
        id="microsoft-daily-recipients",
        stages=_SMTP,
        kinds=("reply",),
        codes=(5,),
        pattern=r"SubmissionQuotaExceeded|submission quota",
        sentence="The mailbox {sender} has used up its recipients for a day; Exchange Online allows 10,000.",
        remedy="Wait: the count runs over 24 hours. For more, spread the mail over several mailboxes or use a service "
        "made for bulk mail.",
        retry=True,
        more="Microsoft: Exchange Online limits, sending limits",
    ),
    Cause(
        id="sending-limit-reached",
        stages=_SMTP,
        kinds=("reply",),
        codes=(4, 5),
        pattern=r"(daily|hourly|monthly).{0,30}(sending|message|mail|sent|relay).{0,20}(limit|quota|exceeded)"
        r"|exceeded.{0,40}(sending|submission|messages?|mail) (limit|quota)"
        r"|maximum credits exceeded|peak smtp relay limit|sending rate exceeded",
        sentence="The sending limit of this account at {host} is used up.",
        remedy="Wait until the limit starts anew, or have it raised where the account is managed.",
        retry=True,
    ),
    Cause(
        id="too-many-connections",
        stages=_SMTP,
        kinds=("reply",),
        codes=(4,),
        pattern=r"too many (concurrent )?(smtp )?(connections|sessions)|maximum number of concurrent"
        r"|connection (rate|limit)",
        sentence="Too many connections to {host} are open from this machine, or for this account.",
        remedy="Look which other programs send from here. It will work again when they are done; the relay's "
        "administrator can raise the limit.",
        retry=True,
    ),
    Cause(
        id="microsoft-server-busy",
        stages=_SMTP,
        kinds=("reply",),
        enhanced=("4.7.500", "4.7.501", "4.7.550", "4.7.650", "4.7.651", "4.7.652"),
        sentence="Microsoft slows this machine's address down because of what or how much came from it lately.",
        remedy="Send more slowly and try again later. If it stays, sign in at smtp.office365.com (Port 587) instead "
        "of sending anonymously.",
        retry=True,
    ),
    Cause(
        id="throttled",
        stages=_SMTP,
        kinds=("reply",),
        codes=(4,),
        pattern=r"thrott|too (quickly|fast|much mail|many (messages|mails|emails|requests))|rate ?limit|unusual rate"
        r"|slow down|rate that prevents",
        sentence="{host} slows us down: too much mail came in a short time.",
        remedy="Wait some minutes, and send more slowly. The relay's administrator can raise the rate.",
        retry=True,
    ),
    # --- Without a reason that we know ---
    Cause(
        id="greeting-busy",
        stages=("greeting",),
        kinds=("reply",),
        codes=(4,),
        sentence="{host} takes no connection now: it is busy, being restarted, or wants us to come again later.",
        remedy="Try again in some minutes. If it stays, ask the relay's administrator.",
        retry=True,
        more="RFC 5321 section 3.8",
    ),
    Cause(
        id="greeting-refused",
        stages=("greeting",),
        kinds=("reply",),
        codes=(5,),
        sentence="{host} greets with a refusal: it offers no mail service to this machine.",
        remedy="Have the relay's administrator allow this machine's address, or check whether Host is the server "
        "meant for sending.",
        more="RFC 5321 section 3.1",
    ),
    Cause(
        id="hello-refused",
        stages=("hello",),
        kinds=("reply",),
        codes=(5,),
        sentence="{host} refuses EHLO. Most often it does not like this machine's address, or the name that keyrelay "
        "gave itself.",
        remedy="Set KEYRELAY_HELLO_NAME to this machine's whole name as it stands in DNS, and ask the relay's "
        "administrator whether its address is allowed.",
        more="RFC 5321 section 4.1.1.1",
    ),
)
