"""What keyrelay works with: the relay, what is kept, and the store."""

from __future__ import annotations

from keyrelay.errors.root import KeyrelayError

# --- The relay -----------------------------------------------------------------------------------------------


class TestFailed(KeyrelayError):
    """The test message did not get through; the message names the stage, what the relay said, and the cause."""

    code = "test_failed"
    remedy = "See the remedy in the message; POST /api/v1/diagnoses shows the whole dialogue."


class NoProfile(KeyrelayError):
    """There is no profile yet to work with."""

    code = "no_profile"
    remedy = "Set one: PUT /SMTP, or keyrelay smtp set FILE."


# --- The outbox ----------------------------------------------------------------------------------------------


class OutboxFull(KeyrelayError):
    """The outbox holds as much as it may; nothing was taken in."""

    code = "outbox_full"
    remedy = "Wait until messages have gone out, or raise KEYRELAY_OUTBOX_MEGABYTES; keyrelay outbox status shows both."


class NotNow(KeyrelayError):
    """The message is in a state in which this cannot be done with it; nothing was changed."""

    code = "not_now"
    remedy = "Look at the state of the message: keyrelay outbox show ID."


# --- Managing what is kept -----------------------------------------------------------------------------------


class UnknownName(KeyrelayError):
    """Nothing of that name or number is kept here."""

    code = "unknown_name"
    remedy = "List what there is: keyrelay user list, keyrelay role list, keyrelay smtp history."


class NameTaken(KeyrelayError):
    """A user, role, provider or entry of that name is already kept here."""

    code = "name_taken"
    remedy = "Choose another name, or change the one that is there."


class InUse(KeyrelayError):
    """Something else still needs what was to be deleted or changed; nothing was."""

    code = "in_use"
    remedy = "Change what uses it first; the message names it."


class Unsuitable(KeyrelayError):
    """A name, password or permission string that keyrelay does not accept."""

    code = "unsuitable"
    remedy = "Choose one that fits what the message asks for."


class IdentityProviderUnusable(KeyrelayError):
    """The keys of an identity provider cannot be had, so that none of its tokens could be checked."""

    code = "identity_provider_unusable"
    remedy = "Correct the authority; or add the provider with --unchecked, if it is only away."


class LastAdministrator(KeyrelayError):
    """The change would leave nobody who may do everything."""

    code = "last_administrator"
    remedy = "Give another user the Administrator role first."


class SecretGone(KeyrelayError):
    """A stored secret has been erased since, so that what needs it cannot be had whole."""

    code = "secret_gone"
    remedy = "Set the profile anew and give the secrets again."


# --- What keyrelay itself needs ------------------------------------------------------------------------------


class StoreUnavailable(KeyrelayError):
    """The database does not answer."""

    code = "store_unavailable"
    remedy = "Check that the database runs and can be reached; keyrelay goes on by itself when it is back."


class KeyUnknown(KeyrelayError):
    """A secret was encrypted with a data key that the database does not hold any more."""

    code = "key_unknown"
    remedy = "Restore the table data_key from the backup that belongs to this database, or give the secret again."


class Unexpected(KeyrelayError):
    """Our fault: the log has the details under the correlation id, and the caller gets nothing of them."""

    code = "unexpected"
    remedy = "Try again; if it stays, look for the correlation id in keyrelay's log and report what you find."
