"""What people at a page do about an error, where the error's own advice is for programs and terminals."""

from __future__ import annotations

import re

from keyrelay.errors import KeyrelayError, TooManyAttempts, TooManyListeners, TooManyMessages, TooManyTests

# What nobody at a page sees or types: headers, requests, commands.
_FOR_OTHERS = re.compile(
    r"\bHTTP\b|\b[Hh]eaders?\b|\bBearer\b|request again|\b(GET|PUT|POST|DELETE) /"
    r"|\bkeyrelay (audit|chaos-relay|demo|doctor|idp|keys|outbox|pam|role|send|serve|smtp|support-bundle|token|user"
    r"|worker)\b"
)
_FROM_THE_PAGE = "Open the page again, and send the form from there."
REMEDIES = {
    "bad_input": "Correct the fields named, and send the form again.",
    "unknown_reference": "Choose one that exists; the page PAM providers lists the providers.",
    "bad_sort_field": "Sort by one of the fields named.",
    "malformed_body": _FROM_THE_PAGE,
    "body_too_large": "Type less, and send the form again.",
    "body_too_slow": "Send the form again; look whether your connection is slow.",
    "unsupported_media_type": _FROM_THE_PAGE,
    "unknown_version": _FROM_THE_PAGE,
    "header_required": _FROM_THE_PAGE,
    "head_too_large": "Go to the overview; if it stays, have the browser forget its cookies of this site.",
    "not_http": "Look whether the address begins as it should: with https, or with http where there is no TLS.",
    "not_found": "Go to the overview, and look from there.",
    "method_not_allowed": "Go to the overview, and open the page from there.",
    "profile_changed": "Look at what it is now, and make your change again.",
    "sign_in_required": "Try again; an administrator can give you a new password.",
    "identity_provider_failed": "Try again in a moment; if it stays, tell an administrator: keyrelay's log says more.",
    "no_role": "Ask an administrator for a role.",
    "test_failed": "See what to do in the message; the page Test shows the whole dialogue.",
    "no_profile": "Make one on the page SMTP configuration.",
    "outbox_full": "Wait until messages have gone out, or have KEYRELAY_OUTBOX_MEGABYTES raised.",
    "not_now": "Open the page of the message again: it shows its state, and what can be done.",
    "unknown_name": "Go back to the list: it shows what there is.",
    "identity_provider_unusable": "Correct the authority; or choose not to ask the provider, if it is only away.",
}
_SECONDS = (TooManyAttempts, TooManyTests, TooManyMessages, TooManyListeners)


def remedy_at_a_page(error: KeyrelayError) -> str:
    """What to do about it. Advice that was given with this one error is kept, unless it is for others."""
    if isinstance(error, _SECONDS):
        return f"Try again in {error.retry_after} seconds."
    if error.advice == error.remedy or _FOR_OTHERS.search(error.advice):
        return REMEDIES.get(error.code, error.remedy)
    return error.advice
