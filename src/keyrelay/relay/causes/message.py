"""Why the relay did not take the message itself."""

from __future__ import annotations

from keyrelay.relay.causes.model import Cause
from keyrelay.relay.model import Stage

_MAIL: tuple[Stage, ...] = ("sender", "recipient", "data")

MESSAGE: tuple[Cause, ...] = (
    Cause(
        id="message-larger-than-size",
        stages=_MAIL,
        kinds=("too_large",),
        sentence="The message[ has {size}, and] is larger than {host} takes[: {limit}].",
        remedy="Send a smaller message (a link instead of an attachment), or have the relay's limit raised (Postfix: "
        "message_size_limit; Exchange: MaxMessageSize of the receive connector).",
        more="RFC 1870",
    ),
    Cause(
        id="message-too-large",
        stages=_MAIL,
        kinds=("reply",),
        codes=(552, 554, 523, 452),
        pattern=r"(message|mail|size).{0,40}(too (big|large)|exceed|larger)|exceed\w*.{0,30}size|\b5\.(3\.4|2\.3)\b",
        sentence="The message is larger than {host} or the recipient takes.",
        remedy="Send a smaller message (a link instead of an attachment), or have the limit raised (Postfix: "
        "message_size_limit; Exchange: MaxMessageSize of the receive connector). Attachments grow by a third on the "
        "way.",
        more="RFC 1870",
    ),
    Cause(
        id="relay-storage-full",
        stages=("hello", *_MAIL),
        kinds=("reply",),
        codes=(4,),
        pattern=r"insufficient (system )?(storage|resources|disk)|disk (is )?full|queue file write|no space"
        r"|\b4\.3\.1\b|\b4\.3\.0\b",
        sentence="{host} cannot store mail now. Most often its disk is full.",
        remedy="Ask the relay's administrator to look at free disk space and memory (Exchange calls it back "
        "pressure). It goes on by itself afterwards.",
        retry=True,
        more="RFC 3463 section 3.4",
    ),
    Cause(
        id="relay-misconfigured",
        stages=("hello", *_MAIL),
        kinds=("reply",),
        codes=(4, 5),
        pattern=r"server configuration|temporary local problem|local (configuration )?error|configuration problem"
        r"|\b[45]\.3\.5\b",
        sentence="{host} has a problem of its own: it says so in its answer.",
        remedy="Ask the relay's administrator to look at its log for this moment: most often a table or service that "
        "its rules need cannot be read.",
        retry=True,
    ),
    Cause(
        id="message-has-virus",
        stages=("data",),
        kinds=("reply",),
        codes=(4, 5),
        pattern=r"virus|malware|infected|\beicar\b",
        sentence="{host} found what it takes for malware in the message.",
        remedy="Look at the attachments and links. If it is a false alarm, have the administrator of the scanner "
        "except them.",
    ),
    Cause(
        id="attachment-refused",
        stages=("data",),
        kinds=("reply",),
        codes=(5,),
        pattern=r"attachment|file (type|extension|name)|potential security issue|blocked because its content",
        sentence="{host} does not take the kind of attachment or content that the message has.",
        remedy="Send a link instead of the file. Archives and programs are refused nearly everywhere.",
    ),
    Cause(
        id="message-taken-for-spam",
        stages=_MAIL,
        kinds=("reply",),
        codes=(4, 5),
        pattern=r"\bspam\b|\bjunk\b|unsolicited|\bbulk\b|reputation|suspicious",
        sentence="{host} takes the message for spam, or trusts this sender too little.",
        remedy="Have this machine or {sender} excepted in the relay's spam filter; for receivers outside, set up SPF, "
        "DKIM and DMARC for {sender_domain}.",
    ),
    Cause(
        id="message-malformed",
        stages=("data",),
        kinds=("reply",),
        codes=(5,),
        pattern=r"header|bare (lf|cr|newline)|line (too long|length)|RFC ?5322|RFC ?2822|\b5\.6\.\d",
        sentence="{host} finds fault with the form of the message.",
        remedy="If the message is one of an application, correct what the reply names (From, Date, Message-ID, line "
        "ends, line length). If it is keyrelay's own test message, please report it.",
        more="RFC 5322",
    ),
    Cause(
        id="message-against-policy",
        stages=("data",),
        kinds=("reply",),
        codes=(5,),
        enhanced=("5.7.",),
        sentence="{host} refuses the message by a rule of its own.",
        remedy="Ask the relay's administrator which rule it is: its log has the reply's words. Common ones look at "
        "sender, recipient, content and attachments.",
        more="RFC 3463 section 3.8",
    ),
    Cause(
        id="data-refused-without-recipients",
        stages=("data",),
        kinds=("reply",),
        codes=(503, 554),
        pattern=r"no valid recipients|need rcpt|no recipients|RCPT (first|command)",
        sentence="{host} has not accepted any recipient, so there was nothing to send.",
        remedy="Look at what it said to the recipients.",
    ),
    Cause(
        id="outcome-unknown",
        stages=_MAIL,
        kinds=("outcome_unknown",),
        sentence="The whole message had been sent, and then the connection was lost, or time was up, before {host} "
        "answered. It may have been accepted, or not.",
        remedy="Look in the recipient's mailbox or the relay's log before sending again, or it may arrive twice. If "
        "it happens often, a scanner at the relay is slower than time-outs in between.",
        more="RFC 5321 section 4.5.3.2.6; RFC 1047",
    ),
    Cause(
        id="message-stalled",
        stages=("data",),
        kinds=("timeout",),
        sentence="{host} stopped taking in the message[ for {seconds} seconds][; the whole test had taken {whole_test} "
        "seconds by then, and may take no longer].",
        remedy="If small messages pass and large ones do not, look at the MTU on the way (VPN) or at a scanner in "
        "between. Otherwise try again later.",
        retry=True,
    ),
    Cause(
        id="message-cut-off",
        stages=("data",),
        kinds=("closed",),
        sentence="{host} closed the connection before the message was complete. It was not accepted.",
        remedy="Try again later. If it stays, look at the relay's log: a size limit or a scanner ends connections "
        "this way.",
        retry=True,
    ),
)
