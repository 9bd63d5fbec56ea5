"""Why signing in failed (RFC 4954), and what the large services mean by their refusals."""

from __future__ import annotations

from keyrelay.relay.causes.model import SENDGRID, Cause, SignIn

_OAUTH: tuple[SignIn, ...] = ("oauth_client_credentials",)
_MICROSOFT_OAUTH = "Microsoft: Authenticate an IMAP, POP or SMTP connection using OAuth"
_MICROSOFT_SMTP_AUTH = (
    "Microsoft: Enable or disable authenticated client SMTP submission (SMTP AUTH) in Exchange Online"
)

SIGN_IN: tuple[Cause, ...] = (
    # --- Before a credential was sent ---
    Cause(
        id="sign-in-unencrypted",
        stages=("token", "auth"),
        kinds=("insecure",),
        pattern=r"unencrypted",
        sentence="The connection to {host} is not encrypted: UseSSL is off and the relay offers no STARTTLS. keyrelay "
        "sends no credentials over it.",
        remedy="Switch UseSSL on, with a port that has TLS (587 or 465).[ Port {better_port} works.] A relay inside "
        "your network may need no sign-in: try Anonymous. Only on a network you trust: "
        "KEYRELAY_ALLOW_INSECURE_SIGN_IN=yes.",
    ),
    Cause(
        id="sign-in-unverified",
        stages=("token", "auth"),
        kinds=("insecure",),
        sentence="The connection to {host} is encrypted, but its certificate was not verified, so it may be anybody. "
        "keyrelay sends no credentials over it.",
        remedy="Make the certificate good: a name on it that is Host, and an authority that is trusted "
        "(KEYRELAY_CA_BUNDLE). Only on a network you trust: KEYRELAY_ALLOW_INSECURE_SIGN_IN=yes.",
    ),
    Cause(
        id="microsoft-mx-has-no-sign-in",
        stages=("auth",),
        kinds=("not_offered", "no_mechanism"),
        host=r"\.mail\.(protection\.outlook\.com|eo\.outlook\.com)$|\.mx\.microsoft$",
        sentence="{host} receives mail for your domain and takes no sign-in.",
        remedy="To sign in, set Host to smtp.office365.com, Port to 587 and UseSSL on. To hand in mail here, use "
        "Anonymous with an inbound connector for this machine's address.",
        more="Microsoft: How to set up a multifunction device or application to send email",
    ),
    Cause(
        id="no-sign-in-on-port-25",
        stages=("auth",),
        kinds=("not_offered",),
        ports=(25,),
        sentence="{host} offers no sign-in on port 25, which is for mail between servers.",
        remedy="Set Port to 587 with UseSSL on. If this relay is inside your network and knows this machine's "
        "address, it needs no sign-in: choose Anonymous.",
        more="RFC 6409 section 4.3",
    ),
    Cause(
        id="no-sign-in-offered",
        stages=("auth",),
        kinds=("not_offered",),
        sentence="{host} offers no sign-in on port {port}.",
        remedy="If the relay lets this machine send by its address, choose Anonymous. Otherwise use its submission "
        "port (587 or 465) with UseSSL on, or have its administrator switch AUTH on.",
        more="RFC 4954 section 4",
    ),
    Cause(
        id="only-oauth-offered",
        stages=("auth",),
        kinds=("no_mechanism",),
        pattern=r"xoauth2|oauthbearer",
        sign_ins=("basic",),
        sentence="{host} takes tokens only[ (it offers {offered})], and the profile has a password.",
        remedy="Choose OAuth client credentials (RelayAuthenticationType 3) and give ClientId, ClientSecret, "
        "TokenEndpoint and Scope.",
    ),
    Cause(
        id="no-oauth-offered",
        stages=("auth",),
        kinds=("no_mechanism",),
        sign_ins=_OAUTH,
        sentence="{host} takes no tokens[: it offers {offered}].",
        remedy="Choose Basic (RelayAuthenticationType 2) with user name and password, or Anonymous if the relay lets "
        "this machine send by its address. Amazon SES and most relays of one's own know no OAuth.",
    ),
    Cause(
        id="no-usable-mechanism",
        stages=("auth",),
        kinds=("no_mechanism",),
        sentence="{host} offers no way to sign in with a password that keyrelay speaks[: it offers {offered}]. "
        "keyrelay speaks PLAIN and LOGIN.",
        remedy="Have PLAIN or LOGIN switched on for encrypted connections (Exchange: Basic authentication on the "
        "receive connector; Postfix: smtpd_sasl_security_options). Some relays offer them only over TLS: switch "
        "UseSSL on.",
    ),
    # --- Exchange Online ---
    Cause(
        id="microsoft-smtp-auth-off-tenant",
        stages=("auth",),
        kinds=("reply",),
        enhanced=("5.7.139",),
        pattern=r"SmtpClientAuthentication is disabled for the Tenant",
        sentence="SMTP sign-in (SMTP AUTH) is switched off for the whole organisation in Exchange Online.",
        remedy="Allow it for this mailbox only: Microsoft 365 admin center, Active users, the user, Mail, Manage "
        "email apps, tick Authenticated SMTP (or Set-CASMailbox -SmtpClientAuthenticationDisabled $false). It takes "
        "some minutes.",
        more=_MICROSOFT_SMTP_AUTH,
    ),
    Cause(
        id="microsoft-smtp-auth-off-mailbox",
        stages=("auth",),
        kinds=("reply",),
        enhanced=("5.7.139",),
        pattern=r"SmtpClientAuthentication is disabled for the Mailbox",
        sentence="SMTP sign-in (SMTP AUTH) is switched off for this mailbox in Exchange Online.",
        remedy="Microsoft 365 admin center, Active users, the user, Mail, Manage email apps: tick Authenticated SMTP "
        "(or Set-CASMailbox -SmtpClientAuthenticationDisabled $false). It takes some minutes.",
        more=_MICROSOFT_SMTP_AUTH,
    ),
    Cause(
        id="microsoft-security-defaults",
        stages=("auth",),
        kinds=("reply",),
        enhanced=("5.7.139",),
        pattern=r"security defaults",
        sentence="The security defaults of the organisation at Microsoft do not let a password sign in.",
        remedy="Best: choose OAuth client credentials (RelayAuthenticationType 3). Otherwise an administrator must "
        "replace security defaults by conditional access with an exception: Entra admin center, Overview, Properties.",
        more="Microsoft: Security defaults in Microsoft Entra ID",
    ),
    Cause(
        id="microsoft-conditional-access",
        stages=("auth",),
        kinds=("reply",),
        enhanced=("5.7.139",),
        pattern=r"did not meet the criteria|conditional access|blocked by",
        sentence="Microsoft did not let this sign-in through. Most often a conditional access policy (multifactor, "
        "place, legacy protocols) or an authentication policy blocks it.",
        remedy="Entra admin center, Users, the user, Sign-in logs: the entry names the policy; have this account "
        "excepted. Check also that Authenticated SMTP is ticked for the mailbox. Better: OAuth client credentials.",
        more=_MICROSOFT_SMTP_AUTH,
    ),
    Cause(
        id="microsoft-basic-off",
        stages=("auth",),
        kinds=("reply",),
        enhanced=("5.7.139", "5.7.30"),
        pattern=r"basic auth\w* is (disabled|not supported)",
        sentence="Microsoft does not take passwords for SMTP in this organisation. By its plan of January 2026 that "
        "is the default for existing organisations after December 2026, and an administrator may switch it on again.",
        remedy="Choose OAuth client credentials (RelayAuthenticationType 3). To gain time, an administrator may allow "
        "basic authentication for SMTP AUTH again as long as Microsoft offers it (message center, MC786329).",
        more="Microsoft 365 message center MC786329",
    ),
    Cause(
        id="microsoft-credentials-wrong",
        stages=("auth",),
        kinds=("reply",),
        enhanced=("5.7.139",),
        pattern=r"credentials were incorrect",
        sentence="Microsoft does not accept this user name and password.",
        remedy="Give both again: the user name is the whole sign-in name (user principal name), not an alias. With "
        "multifactor sign-in a password does not work here: choose OAuth client credentials.",
        more=_MICROSOFT_SMTP_AUTH,
    ),
    Cause(
        id="microsoft-permission-missing",
        stages=("auth",),
        kinds=("reply",),
        codes=(535,),
        enhanced=("5.7.3", "5.7.139"),
        missing_role="SMTP.SendAsApp",
        sign_ins=_OAUTH,
        sentence="The token does not hold the application permission SMTP.SendAsApp, without which no app may send."
        "[ It is for {audience}.][ It holds {roles}.]",
        remedy="Check that Scope is https://outlook.office365.com/.default. Then Entra admin center, App "
        "registrations, the app, API permissions: add SMTP.SendAsApp under Application permissions of Office 365 "
        "Exchange Online (not under Delegated permissions), and grant admin consent.",
        more=_MICROSOFT_OAUTH,
    ),
    Cause(
        id="microsoft-sign-in-blocked",
        stages=("auth",),
        kinds=("reply",),
        enhanced=("5.7.139",),
        sentence="Microsoft did not let this account sign in over SMTP.",
        remedy="Check in this order: Authenticated SMTP is ticked for the mailbox (Microsoft 365 admin center, Active "
        "users, Mail, Manage email apps); the sign-in log of the user in the Entra admin center; the password.",
        more=_MICROSOFT_SMTP_AUTH,
    ),
    Cause(
        id="microsoft-token-refused",
        stages=("auth",),
        kinds=("reply",),
        codes=(535,),
        enhanced=("5.7.3",),
        sign_ins=_OAUTH,
        sentence="A token was issued, and Exchange does not accept it for the mailbox {sender}.",
        remedy="Check in this order. 1: Scope is https://outlook.office365.com/.default. 2: the app has the "
        "application permission SMTP.SendAsApp with admin consent. 3: New-ServicePrincipal was run with the Object ID "
        "from Enterprise applications (not App registrations). 4: Add-MailboxPermission gave it FullAccess to "
        "{sender}. 5: Authenticated SMTP is ticked for that mailbox.",
        more=_MICROSOFT_OAUTH,
    ),
    Cause(
        id="exchange-credentials-wrong",
        stages=("auth",),
        kinds=("reply",),
        codes=(535,),
        enhanced=("5.7.3",),
        sentence="Exchange does not accept this user name and password.",
        remedy="Give both again: user@example.org, or DOMAIN\\user at a server of your own. Check that the account is "
        "neither locked nor expired. At Exchange Online, Authenticated SMTP must be ticked for the mailbox too.",
    ),
    Cause(
        id="account-locked",
        stages=("auth",),
        kinds=("reply",),
        codes=(5,),
        pattern=r"(user|account|mailbox).{0,30}(locked|disabled|suspended|blocked)",
        sentence="The account is locked or disabled at {host}.",
        remedy="Unlock it where accounts are managed, and look which program still tries an old password: it will "
        "lock the account again.",
    ),
    # --- Google ---
    Cause(
        id="google-app-password-wanted",
        stages=("auth",),
        kinds=("reply",),
        codes=(534, 535),
        pattern=r"application.specific password|\bapp password|InvalidSecondFactor",
        sentence="Google wants an app password for this account, not the password of the person.",
        remedy="Switch on 2-Step Verification for the account, make an app password (Google Account, Security, App "
        "passwords) and give it as RelayPassword. Or use Google's SMTP relay service for your organisation.",
        more="Google: Sign in with app passwords",
    ),
    Cause(
        id="google-web-sign-in-wanted",
        stages=("auth",),
        kinds=("reply",),
        codes=(534,),
        pattern=r"web browser|WebLoginRequired",
        sentence="Google wants a person to sign in with a browser before this account may send.",
        remedy="Sign in to the account once with a browser and answer what Google asks; then make an app password and "
        "give it as RelayPassword.",
        more="Google: Gmail SMTP errors and codes",
    ),
    Cause(
        id="google-credentials-wrong",
        stages=("auth",),
        kinds=("reply",),
        codes=(535,),
        pattern=r"username and password not accepted|BadCredentials",
        sentence="Google does not accept this user name and password. The account's ordinary password does not work "
        "here.",
        remedy="Give the whole address as user name and an app password (Google Account, Security, App passwords) "
        "without its spaces. An app password ends when the account's password changes.",
        more="Google: Gmail SMTP errors and codes",
    ),
    # --- Amazon, SendGrid ---
    Cause(
        id="ses-credentials-wrong",
        stages=("auth",),
        kinds=("reply",),
        codes=(535,),
        pattern=r"authentication credentials invalid",
        sentence="{host} does not accept this user name and password. At Amazon SES the keys of AWS are not the SMTP "
        "credentials, and each region has its own.",
        remedy="Amazon SES console, SMTP settings, Create SMTP credentials, in the region of Host; give both as "
        "RelayUsername and RelayPassword. At another service, give its credentials again.",
        more="Amazon SES: Obtaining Amazon SES SMTP credentials",
    ),
    Cause(
        id="sendgrid-credentials-wrong",
        stages=("auth",),
        kinds=("reply",),
        codes=(535,),
        host=SENDGRID,
        sentence="SendGrid does not accept these credentials.",
        remedy="The user name is the word apikey, for everybody; the password is the API key itself (it begins with "
        "SG.) with the permission Mail Send.",
        more="SendGrid: Integrating with the SMTP API",
    ),
    # --- Tokens ---
    Cause(
        id="token-refused-by-relay",
        stages=("auth",),
        kinds=("reply",),
        pattern=r"\bstatus\W+40[01]\b|invalid_token",
        sign_ins=_OAUTH,
        sentence="A token was issued, and {host} does not accept it for {sender}[: {detail}].",
        remedy="Compare the token's audience, roles and scopes in this report with what the relay wants: most often "
        "Scope or Audience is wrong, or the application may not act for {sender}.",
        more="RFC 7628 section 3.2.2",
    ),
    Cause(
        id="token-scope-too-small",
        stages=("auth",),
        kinds=("reply",),
        pattern=r"\bstatus\W+403\b|insufficient_scope",
        sign_ins=_OAUTH,
        sentence="{host} knows the token, and it does not include sending mail[: {detail}].",
        remedy="Set Scope to the one for SMTP, and grant it to the application with an administrator's consent.",
        more="RFC 7628 section 3.2.2",
    ),
    # --- Any relay ---
    Cause(
        id="too-many-sign-ins",
        stages=("auth",),
        kinds=("reply",),
        pattern=r"too many (login|auth\w*|failed|sign.?in|bad|invalid|attempts)",
        sentence="{host} takes no sign-in for a while: too many were tried.",
        remedy="Wait, and find the program that signs in with old credentials or too often. Do not try again and "
        "again: that makes it longer.",
        retry=True,
    ),
    Cause(
        id="password-transition-needed",
        stages=("auth",),
        kinds=("reply",),
        codes=(432,),
        sentence="{host} wants the account to sign in once in another way before this one works.",
        remedy="Sign in once with PLAIN over TLS (another mail program will do), or set the password anew.",
        more="RFC 4954 section 4.7.12",
    ),
    Cause(
        id="mechanism-refused",
        stages=("auth",),
        kinds=("reply",),
        codes=(503, 504, 500, 502, 530, 534, 538),
        sentence="{host} does not take this way of signing in.",
        remedy="With a token: does the relay know OAuth at all? With a password: have PLAIN or LOGIN switched on. "
        "Some relays allow them only over TLS: switch UseSSL on.",
        more="RFC 4954 section 6",
    ),
    Cause(
        id="sign-in-temporarily-failed",
        stages=("auth",),
        kinds=("reply",),
        codes=(451, 454),
        sentence="{host} cannot check credentials now: what it asks for them does not answer.",
        remedy="Try again later. If it stays, ask the relay's administrator to look at its directory or SASL service "
        "(Postfix: Dovecot or saslauthd; Exchange: a domain controller).",
        retry=True,
        more="RFC 4954 section 6",
    ),
    Cause(
        id="token-not-accepted",
        stages=("auth",),
        kinds=("reply",),
        codes=(5,),
        sign_ins=_OAUTH,
        sentence="A token was issued, and {host} does not accept it for {sender}.",
        remedy="Check Scope and Audience, and that the application may act for {sender} at the relay.",
    ),
    Cause(
        id="credentials-wrong",
        stages=("auth",),
        kinds=("reply",),
        codes=(5,),
        sentence="{host} does not accept this user name and password.",
        remedy="Give both again, without spaces around them; many relays want the whole address as user name. Check "
        "that the account is not locked and may send by SMTP.",
        more="RFC 4954 section 6",
    ),
)
