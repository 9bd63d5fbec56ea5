"""Why the relay was not reached, or what was reached is no relay."""

from __future__ import annotations

from keyrelay.profile.model import TransportSecurity
from keyrelay.relay.causes.model import MICROSOFT, SHORT_NAME, Cause

_STARTTLS = (TransportSecurity.STARTTLS_REQUIRED, TransportSecurity.STARTTLS_WHEN_OFFERED)

NETWORK: tuple[Cause, ...] = (
    # --- The name ---
    Cause(
        id="host-name-short",
        stages=("resolve",),
        kinds=("name_unknown",),
        host=SHORT_NAME,
        sentence="The name {host} has no domain, and no name server that keyrelay asks knows it.",
        remedy="Give Host its whole name, such as {host}.example.org: a short name depends on the search list of each "
        "machine, and containers often have none.",
    ),
    Cause(
        id="host-name-unknown",
        stages=("resolve",),
        kinds=("name_unknown",),
        sentence="There is no host named {host}.",
        remedy="Check the spelling of Host, also for spaces. A name that exists only in your own network must be "
        "known to the name server of the machine keyrelay runs on: try getent hosts {host} there.",
    ),
    Cause(
        id="host-without-address",
        stages=("resolve",),
        kinds=("no_address",),
        sentence="The name {host} exists and has no address to connect to.",
        remedy="Host must be the mail server itself (with an A or AAAA record), not the mail domain. Look at the MX "
        "record of the domain, or ask your mail administrator for the server's name.",
    ),
    Cause(
        id="dns-unavailable",
        stages=("resolve",),
        kinds=("dns_unavailable", "timeout"),
        sentence="The name {host} could not be looked up: no name server gave an answer.",
        remedy="Check DNS on the machine keyrelay runs on (/etc/resolv.conf, and UDP and TCP port 53 in the "
        "firewall). Try getent hosts {host} there.",
        retry=True,
    ),
    Cause(
        id="name-waits-for-others",
        stages=("resolve",),
        kinds=("dns_busy",),
        sentence="The name {host} was not looked up: keyrelay waits for name servers about so many other names that it "
        "asks for no more.",
        remedy="Check DNS on the machine keyrelay runs on (/etc/resolv.conf, and UDP and TCP port 53 in the "
        "firewall): it leaves many names without an answer. Then try again.",
        retry=True,
    ),
    # --- The connection ---
    Cause(
        id="microsoft-port-465",
        stages=("connect", "greeting", "tls"),
        kinds=("timeout", "refused", "closed"),
        host=MICROSOFT,
        ports=(465,),
        sentence="Exchange Online does not take mail on port 465.",
        remedy="Set Port to 587 and leave UseSSL on.",
        more="Microsoft: POP, IMAP and SMTP settings for Outlook.com and Exchange Online",
    ),
    Cause(
        id="port-25-blocked",
        stages=("connect",),
        kinds=("timeout",),
        ports=(25,),
        sentence="Nothing came back from {host} on port 25. Most often a firewall drops it: many cloud and internet "
        "companies block port 25 towards the outside.",
        remedy="Use the relay's submission port: Port 587 with UseSSL on, or 465.[ Port {better_port} answers.] If it "
        "must be 25, ask your network team (or your cloud company) to open TCP 25 from this machine to {host}.",
        retry=True,
    ),
    Cause(
        id="connect-timed-out",
        stages=("connect",),
        kinds=("timeout",),
        sentence="Nothing came back from {host} on port {port}[ within {seconds} seconds]. Most often a firewall "
        "drops it, or the machine is down.",
        remedy="Ask your network team to open TCP {port} from this machine to {host}, and check that Host and Port "
        "are right.[ On port {better_port} the relay answers: set Port to {better_port} with UseSSL on.]",
        retry=True,
    ),
    Cause(
        id="connection-refused-loopback",
        stages=("connect",),
        kinds=("refused",),
        host=r"^(localhost|127\.[\d.]+|::1)$",
        sentence="Nobody listens on port {port} of {host}, which is the very machine or container keyrelay runs in.",
        remedy="If the relay runs elsewhere (another container counts), give its own name as Host. Otherwise start "
        "it, and check the port it listens on.",
        retry=True,
    ),
    Cause(
        id="connection-refused",
        stages=("connect",),
        kinds=("refused",),
        sentence="{host} refused the connection: nobody listens on port {port}, or a firewall turns it down.",
        remedy="Check Port (587 and 465 are usual for sign-in, 25 for a relay inside your network) and that the mail "
        "service runs.[ Port {better_port} answers: set Port to {better_port} with UseSSL on.]",
        retry=True,
    ),
    Cause(
        id="host-unreachable",
        stages=("connect",),
        kinds=("unreachable",),
        sentence="There is no way through the network to {host}.",
        remedy="Check routes, VPN and network of the machine keyrelay runs on. When {host} has only IPv6 addresses, "
        "this machine needs IPv6.",
        retry=True,
    ),
    Cause(
        id="connection-forbidden",
        stages=("connect",),
        kinds=("forbidden",),
        sentence="This machine itself forbids keyrelay to connect to {host} on port {port}.",
        remedy="Allow it in the rules of this machine: its firewall, SELinux or AppArmor, the network policy of the "
        "container, or the virus scanner (some forbid port 25 to all but mail programs).",
    ),
    Cause(
        id="connection-reset",
        stages=("connect",),
        kinds=("closed",),
        sentence="The connection to {host} on port {port} was cut while it was being made.",
        remedy="Most often a firewall or load balancer in between does that. Check that its target is up and that "
        "this machine may use it.",
        retry=True,
    ),
    # --- What listens there ---
    Cause(
        id="port-speaks-tls-at-once",
        stages=("greeting", "hello"),
        kinds=("timeout", "closed", "not_smtp"),
        looks=("implicit-tls",),
        ports=(465,),
        securities=_STARTTLS,
        sentence="Port 465 of {host} speaks TLS from the first byte, and UseSSL is off.",
        remedy="Switch UseSSL on; leave Port at 465.",
        more="RFC 8314 section 3.3",
    ),
    Cause(
        id="port-wants-implicit-tls",
        stages=("greeting", "hello"),
        kinds=("timeout", "closed", "not_smtp"),
        looks=("implicit-tls",),
        securities=_STARTTLS,
        sentence="Port {port} of {host} speaks TLS from the first byte; keyrelay does that on port 465 only, and "
        "everywhere else begins in clear text with STARTTLS.",
        remedy="[Port {better_port} works: set Port to {better_port} with UseSSL on. ]Use the relay's port 465, or "
        "its STARTTLS port (587), and switch UseSSL on.",
        more="RFC 8314 section 3.3",
    ),
    Cause(
        id="greeting-in-tls",
        stages=("greeting", "hello"),
        kinds=("not_smtp",),
        pattern=r"\btls\b|\bssl\b",
        sentence="Port {port} of {host} answered in TLS where a greeting in clear text was expected.",
        remedy="With TLS from the first byte the port must be 465 and UseSSL on. For STARTTLS use the relay's port "
        "587.[ Port {better_port} works.]",
        more="RFC 8314 section 3.3",
    ),
    Cause(
        id="port-465-silent",
        stages=("greeting",),
        kinds=("timeout", "closed"),
        ports=(465,),
        securities=_STARTTLS,
        sentence="The relay did not greet on port 465. Most often it waits there for TLS from the first byte, and "
        "UseSSL is off.",
        remedy="Switch UseSSL on; leave Port at 465.",
        more="RFC 8314 section 3.3",
    ),
    Cause(
        id="web-server",
        stages=("greeting", "hello", "tls"),
        kinds=("not_smtp",),
        pattern=r"\bhttp\b|<html|<!doctype",
        sentence="What answers on port {port} of {host} is a web server, not a mail server.",
        remedy="Give Host and Port of the mail server (587, 465 or 25). If they are right, a proxy stands in between: "
        "ask your network team to let SMTP through.",
    ),
    Cause(
        id="ssh-server",
        stages=("greeting", "hello", "tls"),
        kinds=("not_smtp",),
        pattern=r"\bssh\b",
        sentence="What answers on port {port} of {host} is an SSH server, not a mail server.",
        remedy="Correct Port: 587 or 465 for sign-in, 25 for a relay inside your network.",
    ),
    Cause(
        id="mailbox-server",
        stages=("greeting", "hello", "tls"),
        kinds=("not_smtp",),
        pattern=r"\bimap|\bpop3?\b|^\s*\* ok|^\s*\+ok",
        sentence="Port {port} of {host} is for reading mail (IMAP or POP3), not for sending.",
        remedy="Use the port for sending: Port 587 or 465, with UseSSL on. The host for sending may have another "
        "name, such as smtp instead of imap.",
    ),
    Cause(
        id="ftp-server",
        stages=("greeting", "hello"),
        kinds=("reply", "not_smtp"),
        pattern=r"\bv?s?ftpd?\b|filezilla|login with user and pass",
        sentence="What answers on port {port} of {host} is a server for files (FTP), not a mail server.",
        remedy="Correct Port: 587 or 465 for sign-in, 25 for a relay inside your network.",
    ),
    Cause(
        id="not-a-mail-server",
        stages=("greeting", "hello", "tls"),
        kinds=("not_smtp",),
        sentence="What answers on port {port} of {host} does not speak SMTP[; it looks like {detail}].",
        remedy="Check Host and Port: 587 or 465 for sign-in, 25 for a relay inside your network. If they are right, "
        "something in between (a proxy, a load balancer with its own header) alters the connection.",
    ),
    Cause(
        id="greeting-late",
        stages=("greeting",),
        kinds=("timeout",),
        sentence="{host} took the connection on port {port} and then said nothing[ for {seconds} seconds].",
        remedy="Most often the relay looks up who is calling first and its own DNS is slow, a load balancer has no "
        "server behind it, or the relay makes strangers wait. Ask its administrator to look at its log for this "
        "machine's address.",
        retry=True,
    ),
    Cause(
        id="greeting-closed",
        stages=("greeting",),
        kinds=("closed",),
        sentence="{host} took the connection on port {port} and closed it without a word.",
        remedy="Most often this machine's address is not allowed there, or too many connections are open. Ask the "
        "relay's administrator to allow the address (Postfix: mynetworks; Exchange: remote addresses of the receive "
        "connector), or try again later.",
        retry=True,
    ),
)
