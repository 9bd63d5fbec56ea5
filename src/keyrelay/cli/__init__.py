"""The ``keyrelay`` command. Every command is imported when it is called, and not before."""

from __future__ import annotations

import io
import os
import sys

from cyclopts import App, CycloptsError, Parameter

from keyrelay import __version__

app = App(
    name="keyrelay",
    help="One SMTP profile as a service: who your mail goes through, how it signs in there, who it is from.",
    version=f"keyrelay {__version__}",
    default_parameter=Parameter(negative=""),
)
app.command(
    "keyrelay.cli.serve:serve",
    name="serve",
    help="Start the server. Options win over the KEYRELAY_ settings of the same name.",
)
app.command(
    "keyrelay.cli.serve:worker",
    name="worker",
    help="Send what waits in the outbox, beside servers that only take it in. Any number may run.",
)
app.command(
    "keyrelay.cli.send:app",
    name="send",
    help="""Hand a message in from standard input, in place of mail(1) and sendmail(8).

    With -t, -i or -f standard input is a message with its headers, as sendmail reads it; otherwise, and with any of
    -s, -c, -b and -a, it is plain text, as mail reads it. When this ends with 0, the message is safe in the outbox, and
    a server or a worker sends it.

    Exit codes: 64 for what was typed, 65 for what was handed in, 66 for a file that cannot be read, 69 when the relay
    has refused it (--wait), 75 when it may work later, 78 when keyrelay is not set up.
    """,
)
app.command("keyrelay.cli.outbox:app", name="outbox", help="What was handed in, and what became of it.")
app.command("keyrelay.cli.smtp:app", name="smtp", help="The SMTP profile.")
app.command("keyrelay.cli.pam:app", name="pam", help="Where secrets come from: vaults, and entries kept here.")
app.command(
    "keyrelay.cli.doctor:doctor",
    name="doctor",
    help="Look at everything that keyrelay stands on, and say what is wrong and what to do.",
)
app.command(
    "keyrelay.cli.doctor:support_bundle",
    name="support-bundle",
    help="Write what somebody who helps has to know into a zip file, without secrets and without anything personal.",
)
app.command("keyrelay.cli.user:app", name="user", help="Local users: who may sign in.")
app.command("keyrelay.cli.idp:app", name="idp", help="Identity providers: whose tokens count, and who signs people in.")
app.command("keyrelay.cli.token:app", name="token", help="Tokens for machines, in place of a password.")
app.command("keyrelay.cli.role:app", name="role", help="Roles: sets of permissions, held by users or given by claims.")
app.command(
    "keyrelay.cli.chaos_relay:chaos_relay",
    name="chaos-relay",
    help="Run a mail server that misbehaves as you tell it, to see what your programs and alerts make of it.",
)
app.command(
    "keyrelay.cli.demo:demo",
    name="demo",
    help="Run keyrelay with all it needs, and with example data, to try it: nothing has to be set up.",
)
app.command("keyrelay.cli.audit:app", name="audit", help="Who did what, and whether the record of it was changed.")
app.command("keyrelay.cli.keys:app", name="keys", help="The keys that protect stored secrets.")


def main() -> None:
    """Run the command line; what keyrelay can explain ends in one line and exit code 1."""
    from keyrelay.errors import KeyrelayError

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may not know every letter
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # here, where a reader that went away can still be answered for
    except KeyrelayError as error:
        print(f"keyrelay: {error} {error.advice} [{error.code}]", file=sys.stderr)
        raise SystemExit(1) from None
    except CycloptsError as error:  # the others have ended already, with a code of their own
        from keyrelay.cli.sysexits import misunderstood

        raise SystemExit(misunderstood(error)) from None
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None  # as a shell reports it (SIGPIPE)
    except Exception as error:  # noqa: BLE001 - nobody ever sees a traceback
        from keyrelay.log import failure

        through = failure(error)["through"][-1]
        print(f"keyrelay: failed unexpectedly: {type(error).__name__} at {through}. Please report it.", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
