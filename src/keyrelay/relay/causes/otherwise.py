"""What fits when nothing more is known: the last of these fits always."""

from __future__ import annotations

from typing import get_args

from keyrelay.relay.causes.model import Cause
from keyrelay.relay.model import STAGES, Kind

_KINDS: tuple[Kind, ...] = get_args(Kind)

OTHERWISE: tuple[Cause, ...] = (
    Cause(
        id="relay-shutting-down",
        stages=STAGES,
        kinds=("reply",),
        codes=(421,),
        sentence="{host} ended the connection while keyrelay was {doing}: it is busy, being restarted, or has had "
        "enough of this connection.",
        remedy="Try again in some minutes. If it stays, ask the relay's administrator to look at its log.",
        retry=True,
        more="RFC 5321 section 3.8",
    ),
    Cause(
        id="command-unknown",
        stages=STAGES,
        kinds=("reply",),
        codes=(500, 502, 503),
        sentence="{host} does not know a command, or not at this point, while keyrelay was {doing}[: {reply}].",
        remedy="Most often a firewall with SMTP inspection alters the conversation: have it switched off towards "
        "{host}. Otherwise ask the relay's administrator.",
        more="RFC 5321 section 4.2.4",
    ),
    Cause(
        id="sender-deferred",
        stages=("sender",),
        kinds=("reply",),
        codes=(4,),
        pattern=r"sender|domain|address",
        sentence="{host} does not take {sender} as sender now, and may later. Most often it could not look up "
        "{sender_domain}.",
        remedy="Try again later. If it stays, check that {sender_domain} exists in DNS as the relay sees it.",
        retry=True,
    ),
    Cause(
        id="sender-refused",
        stages=("sender",),
        kinds=("reply",),
        codes=(501, 550, 551, 552, 553, 554, 555),
        sentence="{host} does not take {sender} as sender.",
        remedy="Set SenderAccount to an address that the relay knows and that this account (or this machine) may use; "
        "read the relay's answer.",
        more="RFC 5321 section 3.3",
    ),
    Cause(
        id="recipient-deferred",
        stages=("recipient",),
        kinds=("reply",),
        codes=(4,),
        sentence="{host} does not take mail for {recipient} now, and may later.",
        remedy="Try again later: most often it is greylisting, a busy mailbox, or a check that could not be done.",
        retry=True,
        more="RFC 5321 section 4.2.1",
    ),
    Cause(
        id="recipient-refused",
        stages=("recipient",),
        kinds=("reply",),
        codes=(5,),
        sentence="{host} does not take mail for {recipient}.",
        remedy="Read its answer: most often the address does not exist, or this machine or account may not send to it.",
        more="RFC 5321 section 3.3",
    ),
    Cause(
        id="message-refused",
        stages=("data",),
        kinds=("reply",),
        codes=(5,),
        sentence="{host} refuses the message.",
        remedy="Read its answer, and ask its administrator to look at the log for this moment.",
        more="RFC 5321 section 4.2.1",
    ),
    Cause(
        id="message-deferred",
        stages=("data",),
        kinds=("reply",),
        codes=(4,),
        sentence="{host} does not take the message now, and may later.",
        remedy="Try again later; if it stays, ask the relay's administrator to look at its log.",
        retry=True,
        more="RFC 5321 section 4.2.1",
    ),
    Cause(
        id="deferred",
        stages=STAGES,
        kinds=("reply",),
        codes=(4,),
        sentence="{host} said not now while keyrelay was {doing}[: {reply}].",
        remedy="Try again later. If it stays, ask the relay's administrator what this answer means there.",
        retry=True,
        more="RFC 5321 section 4.2.1",
    ),
    Cause(
        id="refused",
        stages=STAGES,
        kinds=("reply",),
        codes=(5,),
        sentence="{host} refused while keyrelay was {doing}[: {reply}].",
        remedy="Ask the relay's administrator what this answer means there; the relay's log tells more.",
        more="RFC 5321 section 4.2.1",
    ),
    Cause(
        id="unexpected-reply",
        stages=STAGES,
        kinds=("reply",),
        sentence="{host} gave an answer that has no meaning while keyrelay was {doing}[: {reply}].",
        remedy="Something in between (a proxy, a load balancer, a firewall with SMTP inspection) may alter the "
        "conversation. Otherwise ask the relay's administrator.",
    ),
    Cause(
        id="not-smtp-any-more",
        stages=STAGES,
        kinds=("not_smtp",),
        sentence="What came from {host} while keyrelay was {doing} is no SMTP[: {detail}].",
        remedy="Something in between (a proxy, a load balancer, a firewall with SMTP inspection) may alter the "
        "conversation: ask your network team.",
    ),
    Cause(
        id="timed-out",
        stages=STAGES,
        kinds=("timeout",),
        sentence="{host} did not answer[ within {seconds} seconds] while keyrelay was {doing}[; the whole test had "
        "taken {whole_test} seconds by then, and may take no longer].",
        remedy="Try again later. If it stays, ask the relay's administrator: slow look-ups (DNS, directory, spam "
        "filter) are the usual reason.",
        retry=True,
    ),
    Cause(
        id="connection-lost",
        stages=STAGES,
        kinds=("closed",),
        sentence="{host} closed the connection while keyrelay was {doing}.",
        remedy="Try again later. If it stays, look at the relay's log; a firewall in between can cut connections too.",
        retry=True,
    ),
    Cause(
        id="unexplained",
        stages=STAGES,
        kinds=_KINDS,
        sentence="Something that keyrelay has no explanation for went wrong while it was {doing}[: {detail}].",
        remedy="Look at the dialogue in the report and at the relay's log for this moment, and please report what you "
        "find, so that the next one gets an explanation.",
    ),
)
